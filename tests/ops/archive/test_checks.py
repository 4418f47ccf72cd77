"""What is found: a backlog that grows old, a bundle that is not what it was, messages in two places or in none."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine

from app.config import Settings
from app.metrics.readings import recorded
from ops.archive import backlog, candidates, verify
from ops.archive.status import status
from ops.checks import archive as checks
from ops.checks.probe import Probe
from ops.findings import CannotJudge
from ops.levels import Level
from tests.archived import archive_all, make_idle, plain
from tests.factories import Account
from tests.ops.archive.conftest import Execute


@pytest.fixture
def probe(settings: Settings, engine: Engine) -> Iterator[Probe]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield Probe(settings, connection)


def metrics() -> dict[str, float]:
    """The archival's metrics as they were last recorded."""
    return {name: value for name, labels, value in recorded() if name.startswith("parley_archive")}


def idle_for(execute: Execute, days: float, conversation: Any) -> None:
    moment = "now() - make_interval(secs => :days * 86400)"
    execute(
        f"UPDATE conversations SET created_at = {moment}, updated_at = {moment} WHERE id = :c",
        days=days,
        c=conversation,
    )


@pytest.mark.parametrize(
    ("days", "level"), [(89, None), (91, None), (93, Level.WARNING), (98, Level.WARNING), (100, Level.CRITICAL)]
)
def test_the_backlog_is_judged_by_the_age_of_its_oldest(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute, probe: Probe, days: int, level: Level | None
) -> None:
    idle_for(execute, days, make_idle(engine, user, plain(3)))
    idle_for(execute, 1, make_idle(engine, user, plain(3)))
    found = list(checks.backlog(probe))
    assert [finding.level for finding in found] == ([level] if level else [])
    with flask_app.app_context():
        backlog.measure()
        stands = status()
    assert metrics()["parley_archive_backlog_conversations"] == (1 if days > 90 else 0)
    age = metrics()["parley_archive_oldest_eligible_age_seconds"]
    assert days * 86_400 <= age < days * 86_400 + 600 if days > 90 else age == 0
    assert stands.level is (level or Level.OK)
    if found:
        assert f"idle for {days} days" in found[0].what
        assert found[0].evidence == {"conversations": 1, "messages": 3, "last run": "never"}
    archive_all(flask_app)
    assert list(checks.backlog(probe)) == []


def test_what_the_archival_does_not_take_is_no_backlog(
    engine: Engine, user: Account, execute: Execute, probe: Probe
) -> None:
    conversation = make_idle(engine, user, plain(3))
    for change in ("legal_hold = true", "legal_hold = false, revived_at = now()", "storage = 'bundled'"):
        execute(f"UPDATE conversations SET {change} WHERE id = :c", c=conversation)
        assert list(checks.backlog(probe)) == []


def test_pages_add_up(
    flask_app: Flask, engine: Engine, user: Account, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in range(7):
        make_idle(engine, user, plain(2), updated_at=f"2021-01-0{days + 1}")
    for page in (1, 2, 3, 7, 8):
        monkeypatch.setattr(backlog, "PAGE", page)
        with flask_app.app_context():
            found = status().backlog
        assert found is not None
        assert (found.seen, found.conversations, found.messages, found.complete) == (7, 7, 14, True)
        assert found.oldest is not None
        assert found.oldest.isoformat().startswith("2021-01-01")
    monkeypatch.setattr(candidates, "PAGE", 2)
    assert archive_all(flask_app).conversations == 7


def test_a_count_that_was_given_up_is_no_answer(
    engine: Engine, user: Account, execute: Execute, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        idle_for(execute, 91, make_idle(engine, user, plain(1)))
    monkeypatch.setattr(backlog, "PAGE", 1)
    monkeypatch.setattr(checks, "COUNT_SECONDS", 0.0)
    with pytest.raises(CannotJudge, match="Only 1 conversations"):
        list(checks.backlog(probe))
    execute("UPDATE conversations SET created_at = '2020-01-01', updated_at = '2020-01-01'")
    assert [finding.level for finding in checks.backlog(probe)] == [Level.CRITICAL]  # enough has been seen


def test_switched_off_there_is_no_backlog(settings: Settings, engine: Engine, user: Account, probe: Probe) -> None:
    make_idle(engine, user, plain(1))
    probe.settings = replace(settings, archive=settings.archive.model_copy(update={"after_days": 0}))
    assert list(checks.backlog(probe)) == []


DAMAGES = {
    "a flipped bit": (
        "UPDATE conversation_archives SET bundle = set_byte(bundle, 30, get_byte(bundle, 30) # 4)"
        " WHERE conversation_id = :c",
        "",
    ),
    "a wrong checksum": (
        "UPDATE conversation_archives SET sha256 = set_byte(sha256, 3, get_byte(sha256, 3) # 1)"
        " WHERE conversation_id = :c",
        "its checksum is another",
    ),
    "no bundle": ("DELETE FROM conversation_archives WHERE conversation_id = :c", "it is bundled, and has no bundle"),
    "a live conversation with a bundle": (
        "UPDATE conversations SET storage = 'live' WHERE id = :c",
        "its messages are live, and there is a bundle as well",
    ),
    "live messages beside a bundle": (
        "INSERT INTO messages (user_id, conversation_id, position, role, content)"
        " SELECT user_id, id, 1, 'user', 'x' FROM conversations WHERE id = :c",
        "it is bundled, and there are live messages as well",
    ),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)
def test_each_damage_is_found_and_named(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute, probe: Probe, damage: str, why: str
) -> None:
    conversations = [make_idle(engine, user, plain(20)) for _ in range(5)]
    archive_all(flask_app)
    assert list(checks.bundles(probe)) == []
    with flask_app.app_context():
        assert verify.verify_daily().damaged == 0
        assert metrics()["parley_archive_damaged_bundles"] == 0
        execute(damage, c=conversations[3])
        found = verify.verify_daily()
    assert (found.damaged, found.complete) == (1, True)
    assert found.damages[0].conversation_id == conversations[3]
    assert why in found.damages[0].why
    assert metrics()["parley_archive_damaged_bundles"] == 1
    [finding] = checks.bundles(probe)
    assert finding.level is Level.CRITICAL
    assert str(conversations[3]) in finding.what


def test_every_bundle_is_read_wherever_it_begins(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        make_idle(engine, user, plain(1))
    archive_all(flask_app)
    monkeypatch.setattr(verify, "BATCH", 2)
    execute("UPDATE conversation_archives SET sha256 = set_byte(sha256, 0, get_byte(sha256, 0) # 1)")
    for _ in range(5):
        with flask_app.app_context():
            found = verify.verify()
        assert (found.bundles, found.verified, found.damaged, found.complete) == (9, 9, 9, True)
        assert len({damage.conversation_id for damage in found.damages}) == 9
    with flask_app.app_context():
        assert not verify.verify(seconds=0.0).complete
