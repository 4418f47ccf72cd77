"""Checks and metrics of the archival: an old backlog, damaged bundles, messages both live and bundled, or neither."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine

from app.config import Settings
from app.metrics.external_gauges import recorded
from ops.archive import backlog, backlog_metrics, candidates, verify
from ops.archive.status import status
from ops.checks.context import CheckContext
from ops.doctor.checks import archive as checks
from ops.errors import UnknownState
from ops.levels import Level
from tests.bundling import archive_all, make_idle, numbered_messages
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute


@pytest.fixture
def context(settings: Settings, engine: Engine) -> Iterator[CheckContext]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield CheckContext(settings, connection)


def metrics() -> dict[str, float]:
    """Return the last recorded metrics of the archival."""
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
def test_backlog_level_depends_on_the_oldest_conversation(
    flask_app: Flask,
    engine: Engine,
    user: LoggedInUser,
    execute: Execute,
    context: CheckContext,
    days: int,
    level: Level | None,
) -> None:
    idle_for(execute, days, make_idle(engine, user, numbered_messages(3)))
    idle_for(execute, 1, make_idle(engine, user, numbered_messages(3)))
    found = list(checks.find_backlog(context))
    assert [finding.level for finding in found] == ([level] if level else [])
    with flask_app.app_context():
        backlog_metrics.measure_backlog()
        current = status()
    assert metrics()["parley_archive_backlog_conversations"] == (1 if days > 90 else 0)
    age = metrics()["parley_archive_oldest_eligible_age_seconds"]
    assert days * 86_400 <= age < days * 86_400 + 600 if days > 90 else age == 0
    assert current.level is (level or Level.OK)
    if found:
        assert f"idle for {days} days" in found[0].message
        assert found[0].evidence == {"conversations": 1, "messages": 3, "last run": "never"}
    archive_all(flask_app)
    assert list(checks.find_backlog(context)) == []


def test_backlog_excludes_what_the_archival_excludes(
    engine: Engine, user: LoggedInUser, execute: Execute, context: CheckContext
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    for change in ("legal_hold = true", "legal_hold = false, revived_at = now()", "storage = 'bundled'"):
        execute(f"UPDATE conversations SET {change} WHERE id = :c", c=conversation)
        assert list(checks.find_backlog(context)) == []


def test_backlog_is_the_same_for_every_page_size(
    flask_app: Flask, engine: Engine, user: LoggedInUser, context: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in range(7):
        make_idle(engine, user, numbered_messages(2), updated_at=f"2021-01-0{days + 1}")
    for page in (1, 2, 3, 7, 8):
        monkeypatch.setattr(backlog, "PAGE", page)
        with flask_app.app_context():
            found = status().backlog
        assert found is not None
        assert (found.examined, found.conversations, found.messages, found.complete) == (7, 7, 14, True)
        assert found.oldest is not None
        assert found.oldest.isoformat().startswith("2021-01-01")
    monkeypatch.setattr(candidates, "PAGE", 2)
    assert archive_all(flask_app).conversations == 7


def test_incomplete_count_is_unknown_unless_it_is_already_critical(
    engine: Engine, user: LoggedInUser, execute: Execute, context: CheckContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        idle_for(execute, 91, make_idle(engine, user, numbered_messages(1)))
    monkeypatch.setattr(backlog, "PAGE", 1)
    monkeypatch.setattr(checks, "COUNT_SECONDS", 0.0)
    with pytest.raises(UnknownState, match="Only 1 conversations"):
        list(checks.find_backlog(context))
    execute("UPDATE conversations SET created_at = '2020-01-01', updated_at = '2020-01-01'")
    assert [finding.level for finding in checks.find_backlog(context)] == [Level.CRITICAL]  # enough has been seen


def test_backlog_is_empty_while_archival_is_off(
    settings: Settings, engine: Engine, user: LoggedInUser, context: CheckContext
) -> None:
    make_idle(engine, user, numbered_messages(1))
    context.settings = replace(settings, archive=settings.archive.model_copy(update={"after_days": 0}))
    assert list(checks.find_backlog(context)) == []


DAMAGES = {
    "a flipped bit": (
        "UPDATE conversation_archives SET bundle = set_byte(bundle, 30, get_byte(bundle, 30) # 4)"
        " WHERE conversation_id = :c",
        "",
    ),
    "a wrong checksum": (
        "UPDATE conversation_archives SET sha256 = set_byte(sha256, 3, get_byte(sha256, 3) # 1)"
        " WHERE conversation_id = :c",
        "its checksum does not match",
    ),
    "no bundle": ("DELETE FROM conversation_archives WHERE conversation_id = :c", "it is bundled, but has no bundle"),
    "a live conversation with a bundle": (
        "UPDATE conversations SET storage = 'live' WHERE id = :c",
        "its messages are live, but it also has a bundle",
    ),
    "live messages beside a bundle": (
        "INSERT INTO messages (user_id, conversation_id, position, role, content)"
        " SELECT user_id, id, 1, 'user', 'x' FROM conversations WHERE id = :c",
        "it is bundled, but also has live messages",
    ),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGES.values(), ids=DAMAGES)
def test_verify_finds_and_names_each_damage(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute, context: CheckContext, damage: str, why: str
) -> None:
    conversations = [make_idle(engine, user, numbered_messages(20)) for _ in range(5)]
    archive_all(flask_app)
    assert list(checks.find_damaged_bundles(context)) == []
    with flask_app.app_context():
        assert verify.run_daily_verification().damaged == 0
        assert metrics()["parley_archive_damaged_bundles"] == 0
        execute(damage, c=conversations[3])
        found = verify.run_daily_verification()
    assert (found.damaged, found.complete) == (1, True)
    assert found.damages[0].conversation_id == conversations[3]
    assert why in found.damages[0].reason
    assert metrics()["parley_archive_damaged_bundles"] == 1
    [finding] = checks.find_damaged_bundles(context)
    assert finding.level is Level.CRITICAL
    assert str(conversations[3]) in finding.message


def test_verify_reads_every_bundle_from_any_start(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(9):
        make_idle(engine, user, numbered_messages(1))
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
