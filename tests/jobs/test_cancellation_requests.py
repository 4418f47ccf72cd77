"""`flask ops jobs cancel` and its request, with a real broker and no worker."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import redis
from click.testing import Result
from flask import Flask
from pydantic import SecretStr

from app.config import Settings
from app.enums import JobRunStatus
from app.ids import new_id
from app.jobs import MAINTENANCE, Message
from ops.catalogue.jobs import ERASE_USER
from ops.catalogue.jobs import PURGE_SESSIONS as JOB
from ops.cli.entry_points import ops
from tests.contracts.application import as_served
from tests.factories import LoggedInUser
from tests.jobs.cancelling import REASON, Cancel, cancel, report, run, served

__all__ = ["cancel", "served"]  # fixtures

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-cancellation-requests")]

Send = Callable[..., str]
WaitForRuns = Callable[..., list[Any]]


def test_run_without_a_worker_is_cancelled_at_its_end(served: Flask, cancel: Cancel) -> None:
    message, shown = str(uuid4()), list[Result]()

    def work() -> None:
        shown.append(cancel(message))
        raise RuntimeError("ended by the cancellation")

    ended = run(served, JOB, message, work)
    assert (shown[0].exit_code, "No worker replied that it runs" in shown[0].stdout) == (1, True)
    assert (ended.status, ended.error) == (JobRunStatus.CANCELLED, None)
    assert ended.reason is not None
    assert ended.reason.endswith(REASON)


def test_run_that_succeeds_in_spite_of_it_is_recorded_so(served: Flask, cancel: Cancel) -> None:
    message = str(uuid4())
    assert run(served, JOB, message, lambda: cancel(message) and None).status is JobRunStatus.SUCCEEDED


def test_cancelled_run_can_be_retried(served: Flask, cancel: Cancel, queue: "redis.Redis[bytes]") -> None:
    queue.flushdb()
    waiting = Message(JOB.name, {"dry_run": True}, MAINTENANCE)
    served.extensions["jobs"].send(waiting)
    assert cancel(waiting.id).exit_code == 0
    cancelled = run(served, JOB, str(waiting.id))
    queue.flushdb()
    result = served.test_cli_runner().invoke(ops, ["jobs", "retry", str(cancelled.id), "--json"])
    assert report(result)["message_id"] != str(waiting.id)
    queue.flushdb()


def test_ended_unknown_and_inline_runs_are_refused(served: Flask, cancel: Cancel) -> None:
    succeeded = run(served, JOB, str(uuid4()))
    shown = list[Result]()
    inline = new_id()

    def work() -> None:
        with served.app_context():
            history = served.test_cli_runner().invoke(
                ops, ["jobs", "history", "--job", JOB.name, "--status", "running", "--json"]
            )
        [running] = [item for item in report_rows(history) if UUID(item["id"]) > inline]
        shown.append(cancel(running["id"]))

    run(served, JOB, None, work)
    for result, code, text in (
        (cancel(succeeded.id), 2, "it is succeeded, and no retry of it waits"),
        (cancel(uuid4()), 64, "No run and no waiting message has the id"),
        (shown[0], 2, "end it there with Ctrl-C"),
    ):
        assert (result.exit_code, text in result.stderr) == (code, True), result.stderr


def report_rows(result: Result) -> list[dict[str, Any]]:
    return list(orjson.loads(result.stdout)["report"])


def test_request_cancels_and_is_audited(
    served: Flask, queue: "redis.Redis[bytes]", make_user: Callable[..., LoggedInUser]
) -> None:
    queue.flushdb()
    of_all, of_user = Message(JOB.name, {}, MAINTENANCE), Message(ERASE_USER.name, {"user_id": "x"})
    for message in (of_all, of_user):
        served.extensions["jobs"].send(message)
    client, user, operator, admin = (
        served.test_client(),
        make_user(),
        make_user(role="operator"),
        make_user(role="admin"),
    )
    url, body = "/api/admin/jobs/runs/{}/cancel", {"reason": REASON}

    def status(message: Message, caller: LoggedInUser, sent: dict[str, str] = body) -> int:
        return client.post(url.format(message.id), json=sent, headers=caller.headers).status_code

    assert status(of_all, user) == 403
    assert status(of_all, operator, {"reason": "no"}) == 400
    assert status(of_user, operator) == 403
    assert run(served, ERASE_USER, str(of_user.id)).status is JobRunStatus.SUCCEEDED
    assert status(of_all, operator) == 202
    answer = client.get("/api/admin/audit?action=job.cancel", headers=operator.headers).get_json()["items"]
    assert [event["result"] for event in answer[:2]] == ["done", "refused"]
    assert answer[0]["details"]["job"] == JOB.name
    assert answer[0]["details"]["reason"] == REASON
    assert status(Message(JOB.name, {}), admin) == 404
    assert run(served, JOB, str(of_all.id)).status is JobRunStatus.CANCELLED
    queue.flushdb()


def test_unreachable_broker_is_one_line(settings: Settings) -> None:
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr("redis://:secret@127.0.0.1:1/0")})
    runner = as_served(replace(settings, jobs=jobs)).test_cli_runner()
    result = runner.invoke(ops, ["jobs", "cancel", str(uuid4()), "--reason", REASON])
    assert (result.exit_code, "The broker cannot be reached" in result.stderr) == (2, True)
    assert "secret" not in result.stderr
