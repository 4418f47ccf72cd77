"""Commands as runs of jobs in the history, and the audit of a restore."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from flask import Flask
from sqlalchemy import make_url

from app.enums import JobRunStatus
from ops.catalogue.declarations import Job
from ops.catalogue.jobs import BACK_UP, DRILL, PRUNE_BACKUPS, RUN_DOCTOR, RUN_DOCTOR_THOROUGH, VERIFY_BACKUPS
from ops.cli.entry_points import ops
from ops.runs.audit import AuditEntry, audit_entries
from ops.runs.history import RecordedRun, job_overviews, recent_runs
from ops.runs.run import RunRequest, run_job
from tests.database import fresh_database, migrated_database
from tests.ops.backup.conftest import BackupInstall


@pytest.fixture
def database(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with migrated_database(postgres, f"recorded_{testrun_uid[:8]}_{worker_id}") as url:
        yield url


@pytest.fixture
def empty(postgres: str, worker_id: str, testrun_uid: str) -> Iterator[str]:
    with fresh_database(postgres, f"empty_{testrun_uid[:8]}_{worker_id}") as url:
        yield url


@pytest.fixture
def parley(install: Callable[..., BackupInstall], database: str) -> BackupInstall:
    return install(database, keep_daily=1, keep_weekly=0, keep_monthly=0)


def listed(flask_app: Flask, job: Job) -> tuple[str | None, bool]:
    """Return the last status of a job in `flask ops jobs list`, and whether it has succeeded."""
    with flask_app.app_context():
        [overview] = job_overviews(now=datetime.now(UTC), jobs=[job])
    return overview.last_status, overview.last_succeeded_at is not None


def history(flask_app: Flask, job: Job) -> list[RecordedRun]:
    with flask_app.app_context():
        return recent_runs(job=job.name)


def test_backup_commands_are_runs_of_their_jobs(parley: BackupInstall) -> None:
    commands = {BACK_UP: ("create",), VERIFY_BACKUPS: ("verify",), DRILL: ("drill",), PRUNE_BACKUPS: ("prune", "--yes")}
    assert [listed(parley.flask_app, job) for job in commands] == [(None, False)] * 4
    for job, arguments in commands.items():
        code, _, err = parley.command(*arguments)
        assert code == 0, err
        assert listed(parley.flask_app, job) == ("succeeded", True), job.name
        assert history(parley.flask_app, job)[0].report, job.name


def test_command_without_success_is_no_run(parley: BackupInstall) -> None:
    assert parley.command("create")[0] == 0
    [dump] = parley.folder.glob("*.dump")
    dump.write_bytes(dump.read_bytes()[:-100])
    for job, arguments in {VERIFY_BACKUPS: ("verify",), DRILL: ("drill",)}.items():
        assert parley.command(*arguments)[0] != 0
        assert history(parley.flask_app, job) == []
    assert parley.command("prune", "--dry-run")[0] == 0
    assert history(parley.flask_app, PRUNE_BACKUPS) == []


def test_scheduled_run_is_not_skipped_after_a_command(parley: BackupInstall) -> None:
    assert parley.command("create")[0] == 0
    with parley.flask_app.app_context():
        scheduled = run_job(BACK_UP, lambda: None, RunRequest(message_id="beat", slot=datetime.now(UTC)))
    assert scheduled.status is JobRunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("options", "recorded"),
    [((), (1, 0)), (("--thorough",), (1, 1)), (("--only", "connection"), (0, 0)), (("--list",), (0, 0))],
)
def test_doctor_of_all_checks_is_a_run(
    parley: BackupInstall, options: tuple[str, ...], recorded: tuple[int, int]
) -> None:
    parley.flask_app.test_cli_runner().invoke(ops, ["doctor", *options])
    runs = [history(parley.flask_app, job) for job in (RUN_DOCTOR, RUN_DOCTOR_THOROUGH)]
    assert (len(runs[0]), len(runs[1])) == recorded
    assert all(run.report and run.report["checked"] > 0 for job_runs in runs for run in job_runs)


def test_doctor_without_a_database_records_nothing(install: Callable[..., BackupInstall]) -> None:
    away = install("postgresql+psycopg2://parley:secret@127.0.0.1:1/parley")
    result = away.flask_app.test_cli_runner().invoke(ops, ["doctor"])
    assert result.exit_code in (2, 3)
    assert "not recorded" not in result.output


def restores(parley: BackupInstall) -> list[AuditEntry]:
    with parley.flask_app.app_context():
        return audit_entries(action="backup.restore")


def test_restore_is_audited(
    parley: BackupInstall, install: Callable[..., BackupInstall], empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parley.command("create")[0] == 0
    [name] = [path.stem for path in parley.folder.glob("*.dump")]
    url = make_url(empty)
    monkeypatch.setenv("PGPASSWORD", str(url.password))
    to = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
    assert parley.command("restore", name, "--to", to, "--yes")[0] == 0
    [done] = restores(parley)
    assert (done.action, done.target, done.result, done.details["ok"]) == ("backup.restore", name, "done", True)
    assert str(url.database) in done.details["into"]
    assert str(url.password) not in str(done.details)
    assert parley.command("restore", name, "--to", to, "--yes")[0] != 0  # it is not empty now
    assert [entry.result for entry in restores(parley)] == ["refused", "done"]


def test_restore_without_the_present_database_is_done(
    parley: BackupInstall, install: Callable[..., BackupInstall], empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parley.command("create")[0] == 0
    [name] = [path.stem for path in parley.folder.glob("*.dump")]
    url = make_url(empty)
    monkeypatch.setenv("PGPASSWORD", str(url.password))
    away = install("postgresql+psycopg2://parley:secret@127.0.0.1:1/parley")
    to = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
    code, _, err = away.command("restore", name, "--to", to, "--yes")
    assert (code, "not audited" in err) == (0, True), err
    assert "secret" not in err
