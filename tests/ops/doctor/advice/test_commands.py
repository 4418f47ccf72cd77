"""Advice that is a command of Parley: backups, erasures, sessions."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.ids import new_id
from ops.doctor.checks import backups, transactions
from ops.levels import Level
from tests.ops.doctor.advice.following import commands_of, follow
from tests.ops.doctor.conftest import DoctorInstall
from tests.ops.installation import run_on

Make = Callable[..., DoctorInstall]


@pytest.fixture
def with_backups(make_install: Make, tmp_path: Path) -> DoctorInstall:
    return make_install(backups={"url": tmp_path.as_uri()})


def test_missing_backup_is_fixed(with_backups: DoctorInstall) -> None:
    (finding,) = with_backups.run_check("backup.recent").findings
    follow(with_backups, finding)
    assert with_backups.run_check("backup.recent").level is Level.OK


def test_missing_drill_is_fixed(with_backups: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = with_backups.run_check("backup.recent").findings
    follow(with_backups, finding)
    monkeypatch.setattr(backups, "DRILL_OLD", timedelta(0))
    (finding,) = with_backups.run_check("backup.drill").findings
    assert finding.message == "No restore drill has ever run."
    follow(with_backups, finding)
    monkeypatch.undo()
    assert with_backups.run_check("backup.drill").level is Level.OK


def add_user(install: DoctorInstall) -> str:
    user_id = str(new_id())
    install.run(
        "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (%(id)s, 'a@b.c', 'a@b.c', 'a', 'x')",
        id=user_id,
    )
    return user_id


def erase(install: DoctorInstall, command: str) -> None:
    """Run the command of a finding as it stands; it asks, and `--yes` answers."""
    arguments = command.removeprefix("ops ").replace("'", "").split(" --reason ")
    result = install.call(*arguments[0].split(), "--reason", arguments[1], "--yes")
    assert result.exit_code == 0, result.output


def test_reappeared_user_is_erased_again(install: DoctorInstall) -> None:
    user_id = add_user(install)
    install.call("user", "erase", user_id, "--reason", "asked for it", "--yes")
    install.run(
        "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (%(id)s, 'a@b.c', 'a@b.c', 'a', 'x')",
        id=user_id,
    )
    (finding,) = install.run_check("erasures.reappeared").findings
    (command,) = commands_of(finding)
    erase(install, command)
    assert install.run_check("erasures.reappeared").level is Level.OK


def test_unfinished_erasure_is_completed(install: DoctorInstall) -> None:
    user_id = add_user(install)
    install.run(
        "INSERT INTO pending_erasures (account_id, rows, begun_at) VALUES (%(id)s, '{}', now() - interval '1 day')",
        id=user_id,
    )
    (finding,) = install.run_check("erasures.unfinished").findings
    (command,) = commands_of(finding)
    erase(install, command)
    assert install.run_check("erasures.unfinished").level is Level.OK


def test_idle_session_is_ended(install: DoctorInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "IDLE", timedelta(0))
    session = install.open()
    run_on(session, "SET idle_in_transaction_session_timeout = 0", "BEGIN", "SELECT 1")
    (finding,) = install.run_check("transactions.idle").findings
    follow(install, finding)
    install.value("SELECT pg_sleep(0.2)::text")
    assert install.run_check("transactions.idle").findings == ()
