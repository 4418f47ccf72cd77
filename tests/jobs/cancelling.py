"""An application that cancels runs of jobs, and what its command prints."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from click.testing import Result
from flask import Flask
from pydantic import SecretStr

from app.config import Settings
from ops.catalogue.declarations import Job
from ops.cli.entry_points import ops
from ops.runs.run import RunRequest, RunResult, run_job
from tests.contracts.application import as_served

REASON = "it blocks the nightly backup"
Cancel = Callable[..., Result]


@pytest.fixture(scope="module")
def served(settings: Settings, broker: str) -> Flask:
    """Create an application with the broker."""
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    return as_served(replace(settings, jobs=jobs))


@pytest.fixture(scope="module")
def cancel(served: Flask) -> Cancel:
    """Return a function that runs `flask ops jobs cancel`."""
    runner = served.test_cli_runner()
    return lambda run, *options: runner.invoke(ops, ["jobs", "cancel", str(run), "--reason", REASON, *options])


def report(result: Result) -> dict[str, Any]:
    assert result.stdout, result.stderr
    return dict(orjson.loads(result.stdout)["report"])


def run(served: Flask, job: Job, message_id: str | None, work: Callable[[], Any] = lambda: None) -> RunResult:
    with served.app_context():
        return run_job(job, work, RunRequest(message_id=message_id))
