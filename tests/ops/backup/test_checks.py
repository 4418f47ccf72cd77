"""What the doctor says of backups: nothing where all is well, and never that where it does not know."""

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
from ops.backup.reports import keep_report
from ops.backup.scheduled import weekly_drill
from ops.doctor import Answer, examine, select
from ops.levels import Level
from tests.ops.backup import broken
from tests.ops.backup.conftest import Installation, run_sql
from tests.ops.backup.test_prune import taken


def asked(parley: Installation) -> dict[str, Answer]:
    with parley.flask_app.app_context():
        return {answer.check: answer for answer in examine(checks=select(["backup"])).answers}


def told(answer: Answer) -> str:
    [finding] = answer.findings
    return finding.what


def only(parley: Installation, name: str) -> None:
    """Remove every other backup."""
    for path in parley.folder.iterdir():
        if not path.name.startswith(name):
            path.unlink()


def test_a_new_and_proven_backup_is_fine(parley: Installation) -> None:
    parley.run(create)
    parley.run(drill)
    assert {name: answer.level for name, answer in asked(parley).items()} == {
        "backup.recent": Level.OK,
        "backup.drill": Level.OK,
    }


def test_no_backup_is_critical_once_there_is_something_to_lose(
    install: Callable[..., Installation], spare: str
) -> None:
    parley = install(spare)
    answer = asked(parley)["backup.recent"]
    assert (answer.level, told(answer)) == (
        Level.CRITICAL, f"{parley.store.place} holds no good backup of this database."
    )  # fmt: skip
    assert answer.findings[0].remedy == "flask ops backup create"
    run_sql(spare, "UPDATE users SET created_at = now()")
    assert asked(parley)["backup.recent"].level is Level.WARNING
    assert asked(parley)["backup.drill"].level is Level.UNKNOWN  # nothing was ever proven


@pytest.mark.parametrize(
    ("hours", "level"), [(25, Level.OK), (27, Level.WARNING), (49, Level.WARNING), (51, Level.CRITICAL)]
)
def test_age(parley: Installation, hours: int, level: Level) -> None:
    parley.run(create)
    only(parley, taken(parley, timedelta(hours=hours)))
    answer = asked(parley)["backup.recent"]
    assert answer.level is level
    if level is not Level.OK:
        assert f"is {hours} hours old" in told(answer)


def test_one_that_is_not_good_does_not_count(parley: Installation) -> None:
    parley.run(create)
    broken.cut_off(parley.folder)
    answer = asked(parley)["backup.recent"]
    assert answer.level is Level.CRITICAL
    assert "bytes instead of" in answer.findings[0].what
    assert "holds no good backup" in answer.findings[1].what


def test_one_from_the_future_does_not_count(parley: Installation) -> None:
    parley.run(create)
    only(parley, taken(parley, -timedelta(days=300)))
    answer = asked(parley)["backup.recent"]
    assert answer.level is Level.CRITICAL
    assert "is dated in the future" in answer.findings[0].what


def test_a_failed_drill_is_critical_until_one_goes_well(parley: Installation) -> None:
    parley.run(create)
    broken.flip_a_bit(parley.folder)
    with pytest.raises(BackupError, match="is damaged"):
        parley.run(weekly_drill)
    answers = asked(parley)
    assert answers["backup.drill"].level is Level.CRITICAL
    assert "is damaged: its SHA-256" in told(answers["backup.drill"])
    assert answers["backup.recent"].level is Level.CRITICAL
    only(parley, parley.run(create).name)
    parley.run(weekly_drill)
    assert asked(parley)["backup.drill"].level is Level.OK


def test_a_drill_of_long_ago_or_never(parley: Installation) -> None:
    parley.run(create)
    old = taken(parley, timedelta(days=9))
    answer = asked(parley)["backup.drill"]
    assert (answer.level, told(answer)) == (Level.WARNING, "No backup has ever been proven by a restore drill.")
    keep_report(parley.store, old, "drill", ok=True, at=datetime.now(UTC) - timedelta(days=9), details={})
    answer = asked(parley)["backup.drill"]
    assert (answer.level, told(answer)) == (Level.WARNING, "The last restore drill was 9 days ago.")


def test_reports_and_files_that_nobody_understands_are_no_reason_to_fail(parley: Installation) -> None:
    name = parley.run(create).name
    (parley.folder / f"{name}.drill-20261122T000000Z-00000000.json").write_text("[]")
    (parley.folder / f"parley-{parley.source}-99999999T999999Z-00000000{MANIFEST}").write_text("?")
    (parley.folder / f"parley{DUMP}").mkdir()
    assert asked(parley)["backup.recent"].level is Level.OK


def test_a_store_out_of_reach_is_not_judged(install: Callable[..., Installation], shop: str, tmp_path: Path) -> None:
    for answer in asked(install(shop, url=(tmp_path / "not mounted").as_uri())).values():
        assert answer.level is Level.UNKNOWN
        assert "mount the disk it is on" in str(answer.reason)


def test_nobody_s_backups_are_a_warning(install: Callable[..., Installation], shop: str) -> None:
    answers = asked(install(shop, url=None))
    assert told(answers["backup.recent"]) == "Nobody backs this database up."
    assert "set BACKUP_URL" in str(answers["backup.recent"].findings[0].remedy)
    assert answers["backup.drill"].level is Level.UNKNOWN


def test_a_drill_dated_in_the_future_says_nothing(parley: Installation) -> None:
    name = parley.run(create).name
    assert asked(parley)["backup.drill"].level is Level.UNKNOWN  # none was due yet
    keep_report(parley.store, name, "drill", ok=True, at=datetime.now(UTC) + timedelta(days=9), details={})
    answer = asked(parley)["backup.drill"]
    assert answer.level is Level.UNKNOWN
    assert "dated in the future" in str(answer.reason)


def test_a_database_that_is_away_is_not_judged(parley: Installation) -> None:
    from ops.checks.backups import recent
    from ops.checks.probe import Probe
    from ops.findings import CannotJudge

    services: Any = parley.flask_app.extensions["parley"]
    with pytest.raises(CannotJudge, match="cannot be reached"):
        list(recent(Probe(replace(services.settings))))
