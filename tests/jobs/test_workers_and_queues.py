"""`flask ops jobs workers`, `purge` and `retry`, with a real worker and a real broker."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from click.testing import Result
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine

from app.config import Settings
from app.factory import create_app
from app.jobs import INTERACTIVE, MAINTENANCE, Message
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import ERASE_USER
from ops.catalogue.jobs import PURGE_SESSIONS as JOB
from ops.cli.entry_points import ops
from ops.runs.run import RunRequest, run_job
from tests.contracts.application import as_served
from tests.factories import LoggedInUser
from tests.jobs.processes import CeleryProcess
from tests.jobs.sample_jobs import BLOCK
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("jobs-operation")]

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def served(settings: Settings, broker: str) -> Flask:
    """Create an application with the broker."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    return as_served(replace(settings, jobs=jobs))


@pytest.fixture(scope="module")
def call(served: Flask) -> Call:
    """Return a function that runs `flask ops jobs ...`."""
    runner = served.test_cli_runner()
    return lambda *arguments: runner.invoke(ops, ["jobs", *arguments])


def failed_run(served: Flask, job: Job, **arguments: Any) -> str:
    def work() -> None:
        raise RuntimeError("no luck")

    with served.app_context():
        return str(run_job(job, work, RunRequest(arguments=arguments)).id)


def waiting(queue: "redis.Redis[bytes]", name: str) -> list[dict[str, Any]]:
    return [orjson.loads(raw)["headers"] for raw in queue.lrange(name, 0, -1)]


def test_purge_deletes_the_messages_of_one_queue(
    call: Call, served: Flask, queue: "redis.Redis[bytes]", make_user: Callable[..., LoggedInUser]
) -> None:
    queue.flushdb()
    for name in (INTERACTIVE, MAINTENANCE, MAINTENANCE):
        served.extensions["jobs"].send(Message(JOB.name, {}, name))
    unconfirmed = call("purge", MAINTENANCE)
    assert (unconfirmed.exit_code, len(waiting(queue, MAINTENANCE))) == (64, 2)
    assert "delete the 2 messages that wait in the queue maintenance" in unconfirmed.stderr
    purged = call("purge", MAINTENANCE, "--yes", "--json")
    assert orjson.loads(purged.stdout)["report"] == {"queue": MAINTENANCE, "deleted": 2}, purged.stderr
    assert (len(waiting(queue, MAINTENANCE)), len(waiting(queue, INTERACTIVE))) == (0, 1)
    client, operator, user = served.test_client(), make_user(role="operator"), make_user()
    url = f"/api/admin/jobs/queues/{INTERACTIVE}/purge"
    assert client.post(url, headers=user.headers).status_code == 403
    assert client.post(url, headers=operator.headers).get_json() == {"queue": INTERACTIVE, "deleted": 1}
    assert client.post("/api/admin/jobs/queues/celery/purge", headers=operator.headers).status_code == 404
    audit = client.get("/api/admin/audit?action=queue.purge", headers=operator.headers).get_json()["items"]
    assert [event["details"]["deleted"] for event in audit[1:3]] == [1, 2]


def test_failed_run_is_enqueued_again_with_its_arguments(
    call: Call, served: Flask, queue: "redis.Redis[bytes]", make_user: Callable[..., LoggedInUser]
) -> None:
    queue.flushdb()
    run_id = failed_run(served, JOB, dry_run=True)
    repeated = orjson.loads(call("retry", run_id, "--json").stdout)["report"]
    [header] = waiting(queue, MAINTENANCE)
    assert (header["task"], header["id"], header["kwargsrepr"]) == (
        JOB.name,
        repeated["message_id"],
        "{'dry_run': True}",
    )
    with served.app_context():
        succeeded = run_job(JOB, lambda: None, RunRequest())
    refused = call("retry", str(succeeded.id))
    assert (refused.exit_code, "only a failed, lost or cancelled run" in refused.stderr) == (2, True)
    of_user = failed_run(served, ERASE_USER, user_id="x", reason="asked for it", by="x")
    client, operator = served.test_client(), make_user(role="operator")
    url = "/api/admin/jobs/runs/{}/retry"
    assert client.post(url.format(run_id), headers=operator.headers).status_code == 202
    assert client.post(url.format(of_user), headers=operator.headers).status_code == 403
    assert client.post(url.format(succeeded.id), headers=operator.headers).status_code == 409
    queue.flushdb()


def test_no_worker_is_a_warning(call: Call) -> None:
    result = call("workers")
    assert (result.exit_code, "No worker replied" in result.stdout) == (1, True)


def test_worker_shows_what_it_runs(
    call: Call, worker: CeleryProcess, send: Callable[..., str], wait_for_runs: Callable[..., list[Any]], marks: Path
) -> None:
    message = send(BLOCK, key="shown")
    wait_until((marks / "shown.run0").exists)
    result = call("workers", "--json")
    assert result.exit_code == 0, result.stderr
    report = orjson.loads(result.stdout)["report"]
    [found] = report["workers"]
    [running] = found["running"]
    assert (running["job"], running["message_id"]) == (BLOCK.name, message)
    assert running["pid"] == int((marks / "shown.run0").read_text())
    assert (found["pid"], {queue["queue"] for queue in report["queues"]}) == (
        worker.process.pid,
        {INTERACTIVE, MAINTENANCE},
    )
    assert BLOCK.name in call("workers").stdout
    (marks / "shown.go").touch()
    wait_for_runs(message)


def test_unreachable_broker_is_one_line(settings: Settings, engine: Engine) -> None:
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr("redis://:secret@127.0.0.1:1/0")})
    runner = create_app(replace(settings, jobs=jobs)).test_cli_runner()
    for arguments in (("workers",), ("purge", MAINTENANCE, "--yes")):
        result = runner.invoke(ops, ["jobs", *arguments])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "The broker cannot be reached" in result.stderr
        assert "secret" not in result.stderr
