"""`flask ops jobs run --dry-run`."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import Engine, text

from ops.catalogue.declarations import supports_dry_run
from ops.catalogue.jobs import JOBS, PURGE_SESSIONS
from ops.cli.entry_points import ops
from ops.runs.history import job_overviews
from tests.factories import LoggedInUser

Run = Callable[..., Result]


@pytest.fixture
def run(flask_app: Flask) -> Run:
    """Return a function that runs `flask ops jobs ...`."""
    runner = flask_app.test_cli_runner()
    return lambda *arguments: runner.invoke(ops, ["jobs", *arguments])


def report(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return dict(orjson.loads(result.stdout)["report"])


def test_dry_run_reports_and_deletes_nothing(run: Run, engine: Engine, user: LoggedInUser) -> None:
    expire = text("UPDATE sessions SET expires_at = now() - interval '400 days' WHERE user_id = :user")
    with engine.begin() as connection:
        connection.execute(expire, {"user": user.id})
    dry = report(run("run", PURGE_SESSIONS.name, "--dry-run", "--json"))["report"]
    assert (dry["dry_run"], dry["deleted"]) == (True, 1)
    real = report(run("run", PURGE_SESSIONS.name, "--json"))["report"]
    assert (real["dry_run"], real["deleted"]) == (False, 1)


def test_dry_run_does_not_count_as_last_run(run: Run, flask_app: Flask) -> None:
    def last_started_at() -> datetime | None:
        with flask_app.app_context():
            [overview] = job_overviews(now=datetime.now(UTC), jobs=[PURGE_SESSIONS])
        return overview.last_started_at

    report(run("run", PURGE_SESSIONS.name, "--json"))
    before = last_started_at()
    report(run("run", PURGE_SESSIONS.name, "--dry-run", "--json"))
    assert last_started_at() == before


def test_job_without_dry_run_is_refused(run: Run) -> None:
    refused = run("run", "stats.record", "--dry-run")
    assert (refused.exit_code, refused.stdout) == (64, "")
    assert "stats.record has no dry run" in refused.stderr


def test_every_purge_has_a_dry_run() -> None:
    purges = [job for job in JOBS if ".purge" in job.name or job.name == "backups.prune"]
    assert len(purges) > 5
    assert [job.name for job in purges if not supports_dry_run(job)] == []
