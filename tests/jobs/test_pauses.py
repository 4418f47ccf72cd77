"""Paused jobs: `flask ops jobs pause` and `resume`, and the runs that beat requests."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from click.testing import Result
from flask import Flask

from app.config import Settings
from app.enums import JobRunStatus
from ops.catalogue.declarations import load
from ops.catalogue.jobs import BEAT_TICK
from ops.catalogue.jobs import PURGE_SESSIONS as JOB
from ops.cli.entry_points import ops
from ops.runs.run import RunRequest, RunResult, run_job
from tests.contracts.application import as_served
from tests.factories import LoggedInUser

REASON = "the disk is replaced"
URL = f"/api/admin/jobs/{JOB.name}/pause"

Call = Callable[..., Result]


@pytest.fixture
def call(flask_app: Flask) -> Iterator[Call]:
    """Return a function that runs `flask ops jobs ...`; the job is resumed afterwards."""
    runner = flask_app.test_cli_runner()
    yield lambda *arguments: runner.invoke(ops, ["jobs", *arguments])
    runner.invoke(ops, ["jobs", "resume", JOB.name])


def run(flask_app: Flask, slot: datetime | None) -> RunResult:
    with flask_app.app_context():
        return run_job(JOB, load(JOB.function), RunRequest(slot=slot))


def overview(call: Call) -> dict[str, Any]:
    listed = orjson.loads(call("list", "--json").stdout)["report"]
    return dict(next(entry for entry in listed if entry["job"] == JOB.name))


def test_paused_job_skips_slots_and_runs_on_request(call: Call, flask_app: Flask) -> None:
    paused = call("pause", JOB.name, "--reason", REASON, "--json")
    assert paused.exit_code == 0, paused.stderr
    since = orjson.loads(paused.stdout)["report"]["since"]
    assert (overview(call)["pause_reason"], overview(call)["paused_since"]) == (REASON, since)
    skipped = run(flask_app, datetime.now(UTC))
    assert (skipped.status, skipped.reason) == (JobRunStatus.SKIPPED, f"it is paused: {REASON}")
    assert "it is paused" in call("show", str(skipped.id)).stdout
    assert run(flask_app, None).status is JobRunStatus.SUCCEEDED
    again = orjson.loads(call("pause", JOB.name, "--reason", "for another reason", "--json").stdout)["report"]
    assert (again["since"], again["reason"]) == (since, "for another reason")
    assert call("resume", JOB.name).exit_code == 0
    assert overview(call)["paused_since"] is None
    unknown = call("resume", JOB.name)
    assert (unknown.exit_code, "is not paused" in unknown.stderr) == (64, True)


def test_resumed_job_runs_in_its_next_slot(call: Call, flask_app: Flask) -> None:
    call("pause", JOB.name, "--reason", REASON)
    call("resume", JOB.name)
    result = run(flask_app, datetime(2026, 1, 2, tzinfo=UTC))
    assert result.reason in (None, "it has just run")


@pytest.mark.parametrize("reason", ["", "too short", " " * 20, "\u200b" * 20, "x" * 1001])
def test_reason_out_of_bounds_is_refused(call: Call, reason: str) -> None:
    refused = call("pause", JOB.name, "--reason", reason)
    assert (refused.exit_code, "10 to 1000 characters" in refused.stderr) == (64, True)
    assert overview(call)["paused_since"] is None


def test_job_of_beat_cannot_be_paused(call: Call) -> None:
    refused = call("pause", BEAT_TICK.name, "--reason", REASON)
    assert (refused.exit_code, "cannot be paused" in refused.stderr) == (2, True)


def test_operator_pauses_and_resumes_over_http(
    call: Call, settings: Settings, make_user: Callable[..., LoggedInUser]
) -> None:
    client, operator, user = as_served(settings).test_client(), make_user(role="operator"), make_user()
    assert client.put(URL, json={"reason": REASON}, headers=user.headers).status_code == 403
    assert client.delete(URL, headers=user.headers).status_code == 403
    paused = client.put(URL, json={"reason": REASON}, headers=operator.headers)
    assert (paused.status_code, paused.get_json()["by"]) == (200, str(operator.id))
    assert client.put(URL, json={"reason": "short"}, headers=operator.headers).status_code == 400
    unknown = client.put(URL.replace(JOB.name, "no.such"), json={"reason": REASON}, headers=operator.headers)
    assert unknown.status_code == 404
    assert client.delete(URL, headers=operator.headers).get_json() == paused.get_json()
    assert client.delete(URL, headers=operator.headers).status_code == 404
