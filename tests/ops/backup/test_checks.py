"""The doctor's checks of backups."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.backup.create import create
from ops.backup.drill import drill
from ops.backup.errors import BackupError
from ops.backup.names import DUMP, MANIFEST
from ops.backup.scheduled import drill_or_fail
from ops.backup.stored_reports import store_report
from ops.checks.context import CheckContext
from ops.checks.run import CheckResult
from ops.doctor.checks.backups import check_recent_backup
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.errors import UnknownState
from ops.levels import Level
from tests.ops.backup import damage
from tests.ops.backup.conftest import BackupInstall
from tests.ops.backup.test_prune import copy_aged
from tests.ops.installation import run_sql

CHECKS = ("backup.recent", "backup.drill")


def run_checks(parley: BackupInstall) -> dict[str, CheckResult]:
    with parley.flask_app.app_context():
        return {result.check: result for result in run_doctor(checks=select_checks(CHECKS)).results}


def message(result: CheckResult) -> str:
    [finding] = result.findings
    return finding.message


def keep_only(parley: BackupInstall, name: str) -> None:
    """Delete all other backups."""
    for path in parley.folder.iterdir():
        if not path.name.startswith(name):
            path.unlink()


def test_new_and_drilled_backup_is_ok(parley: BackupInstall) -> None:
    parley.run(create)
    parley.run(drill)
    assert {name: result.level for name, result in run_checks(parley).items()} == {
        "backup.recent": Level.OK,
        "backup.drill": Level.OK,
    }


def test_missing_backup_is_critical_once_users_are_a_day_old(
    install: Callable[..., BackupInstall], spare_url: str
) -> None:
    parley = install(spare_url)
    result = run_checks(parley)["backup.recent"]
    assert (result.level, message(result)) == (
        Level.CRITICAL, f"{parley.store.url} holds no good backup of this database."
    )  # fmt: skip
    assert result.findings[0].remedy == "flask ops backup create"
    run_sql(spare_url, "UPDATE users SET created_at = now()")
    assert run_checks(parley)["backup.recent"].level is Level.WARNING
    assert run_checks(parley)["backup.drill"].level is Level.UNKNOWN  # nothing was ever proven


@pytest.mark.parametrize(
    ("hours", "level"), [(25, Level.OK), (27, Level.WARNING), (49, Level.WARNING), (51, Level.CRITICAL)]
)
def test_recent_level_depends_on_age(parley: BackupInstall, hours: int, level: Level) -> None:
    parley.run(create)
    keep_only(parley, copy_aged(parley, timedelta(hours=hours)))
    result = run_checks(parley)["backup.recent"]
    assert result.level is level
    if level is not Level.OK:
        assert f"is {hours} hours old" in message(result)


def test_damaged_backup_is_not_recent(parley: BackupInstall) -> None:
    parley.run(create)
    damage.truncate_dump(parley.folder)
    result = run_checks(parley)["backup.recent"]
    assert result.level is Level.CRITICAL
    assert "bytes instead of" in result.findings[0].message
    assert "holds no good backup" in result.findings[1].message


def test_future_backup_is_not_recent(parley: BackupInstall) -> None:
    parley.run(create)
    keep_only(parley, copy_aged(parley, -timedelta(days=300)))
    result = run_checks(parley)["backup.recent"]
    assert result.level is Level.CRITICAL
    assert "is dated in the future" in result.findings[0].message


def test_failed_drill_is_critical_until_the_next_good_one(parley: BackupInstall) -> None:
    parley.run(create)
    damage.flip_bit(parley.folder)
    with pytest.raises(BackupError, match="is damaged"):
        parley.run(drill_or_fail)
    answers = run_checks(parley)
    assert answers["backup.drill"].level is Level.CRITICAL
    assert "is damaged: its SHA-256" in message(answers["backup.drill"])
    assert answers["backup.recent"].level is Level.CRITICAL
    keep_only(parley, parley.run(create).name)
    parley.run(drill_or_fail)
    assert run_checks(parley)["backup.drill"].level is Level.OK


def test_old_or_missing_drill_is_a_warning(parley: BackupInstall) -> None:
    parley.run(create)
    old = copy_aged(parley, timedelta(days=9))
    result = run_checks(parley)["backup.drill"]
    assert (result.level, message(result)) == (Level.WARNING, "No restore drill has ever run.")
    store_report(parley.store, old, "drill", ok=True, at=datetime.now(UTC) - timedelta(days=9), details={})
    result = run_checks(parley)["backup.drill"]
    assert (result.level, message(result)) == (Level.WARNING, "The last restore drill was 9 days ago.")


def test_invalid_reports_and_files_are_ignored(parley: BackupInstall) -> None:
    name = parley.run(create).name
    (parley.folder / f"{name}.drill-20261122T000000Z-00000000.json").write_text("[]")
    (parley.folder / f"parley-{parley.source}-99999999T999999Z-00000000{MANIFEST}").write_text("?")
    (parley.folder / f"parley{DUMP}").mkdir()
    assert run_checks(parley)["backup.recent"].level is Level.OK


def test_unavailable_store_is_unknown(install: Callable[..., BackupInstall], sample_url: str, tmp_path: Path) -> None:
    for result in run_checks(install(sample_url, url=(tmp_path / "not mounted").as_uri())).values():
        assert result.level is Level.UNKNOWN
        assert "mount its disk" in str(result.reason)


def test_unconfigured_backups_are_a_warning(install: Callable[..., BackupInstall], sample_url: str) -> None:
    answers = run_checks(install(sample_url, url=None))
    assert message(answers["backup.recent"]) == "No backups are configured."
    assert "Set BACKUP_URL" in str(answers["backup.recent"].findings[0].remedy)
    assert answers["backup.drill"].level is Level.UNKNOWN


def test_drill_dated_in_the_future_is_unknown(parley: BackupInstall) -> None:
    name = parley.run(create).name
    assert run_checks(parley)["backup.drill"].level is Level.UNKNOWN  # none was due yet
    store_report(parley.store, name, "drill", ok=True, at=datetime.now(UTC) + timedelta(days=9), details={})
    result = run_checks(parley)["backup.drill"]
    assert result.level is Level.UNKNOWN
    assert "dated in the future" in str(result.reason)


def test_unreachable_database_is_unknown(parley: BackupInstall) -> None:
    services: Any = parley.flask_app.extensions["parley"]
    with pytest.raises(UnknownState, match="cannot be reached"):
        list(check_recent_backup(CheckContext(replace(services.settings))))


def test_drilled_backup_that_was_damaged_since_is_found(parley: BackupInstall) -> None:
    parley.run(create)
    parley.run(drill)
    damage.flip_bit(parley.folder)
    for result in run_checks(parley).values():
        assert result.level is Level.WARNING
        assert "was written again since" in message(result)
    parley.command("verify")
    for result in run_checks(parley).values():
        assert result.level is Level.CRITICAL, result
    parley.run(create)
    parley.run(drill)
    assert {result.level for result in run_checks(parley).values()} == {Level.OK}


def test_copied_backup_is_ok_after_a_verification(parley: BackupInstall) -> None:
    parley.run(create)
    parley.run(drill)
    damage.dump_in(parley.folder).touch()
    assert run_checks(parley)["backup.drill"].level is Level.WARNING
    assert parley.command("verify")[0] == 0
    assert {result.level for result in run_checks(parley).values()} == {Level.OK}


def test_drilled_backup_without_dump_is_critical(parley: BackupInstall) -> None:
    parley.run(create)
    parley.run(drill)
    damage.dump_in(parley.folder).unlink()
    result = run_checks(parley)["backup.drill"]
    assert result.level is Level.CRITICAL
    assert "is not good any more: its dump is missing" in message(result)


def test_dump_without_manifest_is_an_orphan(parley: BackupInstall) -> None:
    parley.run(create)
    name = damage.dump_in(parley.folder).name.removesuffix(DUMP)
    damage.manifest_in(parley.folder).unlink()
    parley.run(create)
    listed = json.loads(parley.command("list", "--json")[1])["report"]
    assert {item["name"]: item["state"].partition(":")[0] for item in listed}[name] == "orphan"
    assert run_checks(parley)["backup.recent"].level is Level.OK  # it may belong to a running backup
    an_hour_ago = time.time() - 3600
    os.utime(parley.folder / f"{name}{DUMP}", (an_hour_ago, an_hour_ago))
    (finding,) = run_checks(parley)["backup.recent"].findings
    assert (finding.object, finding.level) == (name, Level.WARNING)
    assert "?" in str(finding.remedy)
