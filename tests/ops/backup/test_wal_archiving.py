"""Archiving of WAL, on a server of its own, and what the reports say about a loss."""

import shlex
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ops import embedded
from ops.backup.create import create
from ops.backup.status import BackupOverview, backup_status
from ops.checks.context import open_check_context
from ops.checks.run import CheckResult
from ops.doctor.checks import wal_archiving
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.embedded.site import open_site
from ops.levels import Level
from ops.routines.backups import last_backup
from tests.ops.backup.conftest import BackupInstall, as_role, fill
from tests.ops.installation import run_sql
from tests.waiting import wait_until

SWITCH = "SELECT pg_switch_wal() FROM (SELECT pg_logical_emit_message(false, 'test', 'x')) AS written"


@pytest.fixture
def archive(home: Path) -> Path:
    folder = home.parent / "wal"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def archiving(
    home: Path, archive: Path, install: Callable[..., BackupInstall]
) -> Iterator[Callable[[str], BackupInstall]]:
    """Return a function that starts a server with this archive_command, and installs Parley on it."""
    with embedded.lease_postgres(home, durable=False) as lease:
        fill(lease.url)
        run_sql(lease.url, "ALTER SYSTEM SET archive_mode = 'on'")
    assert open_site(home)  # the lease has ended, so that the next one starts the server with archive_mode

    def start(command: str) -> BackupInstall:
        run_sql(restarted.url, f"ALTER SYSTEM SET archive_command = '{command}'", "SELECT pg_reload_conf()")
        return install(restarted.url)

    with embedded.lease_postgres(home, durable=False) as restarted:
        wait_until(lambda: run_sql(restarted.url, "SHOW archive_mode") == [("on",)])
        yield start


def copy_to(archive: Path) -> str:
    return f"cp %p {shlex.quote(str(archive))}/%f".replace("'", "''")


def check(parley: BackupInstall) -> CheckResult:
    with parley.flask_app.app_context():
        [result] = run_doctor(checks=select_checks(["backup.wal"])).results
    return result


def status(parley: BackupInstall) -> BackupOverview:
    with parley.flask_app.app_context():
        return backup_status(parley.flask_app.extensions["parley"].settings)


def archiver(parley: BackupInstall, column: str) -> int:
    return int(run_sql(parley.url, f"SELECT {column} FROM pg_stat_archiver")[0][0])


@pytest.mark.process
def test_failing_archiving_is_found_until_it_works_again(
    archiving: Callable[[str], BackupInstall], archive: Path
) -> None:
    parley = archiving(copy_to(archive))
    parley.run(create)
    run_sql(parley.url, SWITCH)
    wait_until(lambda: archiver(parley, "archived_count") >= 1)
    assert check(parley).level is Level.OK
    assert status(parley).wal_archived
    assert "can be restored to that moment" in status(parley).loss

    archiving("false")
    run_sql(parley.url, SWITCH)
    wait_until(lambda: archiver(parley, "failed_count") >= 1)
    result = check(parley)
    [finding] = result.findings
    assert result.level is Level.WARNING
    assert finding.message.startswith("Archiving of WAL fails; the last segment was archived at 20")
    assert finding.evidence["failed_attempts"] >= 1
    assert not status(parley).wal_archived
    assert "WAL archiving fails: with the database, the changes of the last" in status(parley).loss

    archiving(copy_to(archive))
    wait_until(lambda: check(parley).level is Level.OK)


@pytest.mark.process
def test_archiving_that_hangs_or_has_no_command_is_found(
    archiving: Callable[[str], BackupInstall], archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parley = archiving("")
    run_sql(parley.url, SWITCH)
    assert "archive_command is empty" in check(parley).findings[0].message
    assert check(parley).level is Level.CRITICAL
    archiving("sleep 60")
    run_sql(parley.url, SWITCH)
    assert check(parley).level is Level.OK  # for fifteen minutes
    monkeypatch.setattr(wal_archiving, "BEHIND", timedelta(0))
    [finding] = check(parley).findings
    assert "omplete WAL segments are not archived" in finding.message


def test_server_without_archiving_has_no_finding_and_a_report_of_the_loss(parley: BackupInstall) -> None:
    assert check(parley).level is Level.OK
    assert (
        status(parley).loss
        == "WAL is not archived, and there is no good backup: with the database, everything would be lost."
    )
    created = parley.run(create)
    now = status(parley)
    assert (now.newest, now.backups, now.wal_archived, now.encryption) == (created.name, 1, False, None)
    assert now.loss.startswith("WAL is not archived: with the database, the changes of the last ")
    code, out, err = parley.command("status")
    assert code == 0, err
    assert "WAL is not archived" in out
    with parley.flask_app.app_context(), open_check_context() as context:
        section = last_backup(context)
    assert "WAL is not archived: with the database, the changes of the last" in section.summary


def test_ordinary_role_reads_the_state(install: Callable[..., BackupInstall], spare_url: str) -> None:
    role = f"plain_{make_url(spare_url).database}"
    run_sql(spare_url, f"CREATE ROLE {role} LOGIN PASSWORD 'plain'")
    try:
        assert check(install(as_role(spare_url, role, "plain"))).level is Level.OK
    finally:
        run_sql(spare_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_status_without_a_store_says_so(install: Callable[..., BackupInstall], sample_url: str) -> None:
    now = status(install(sample_url, url=None))
    assert (now.store, now.backups, now.newest) == (None, 0, None)
    assert "everything would be lost" in now.loss
