"""Runs of the archival: selection, limits, resuming and failures."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.errors import InvalidInput, NotFound
from app.extensions import db
from app.factory import create_app
from app.ids import new_id
from ops.archive import batch
from ops.archive.lock import archival_lock
from ops.archive.plan import plan
from ops.archive.run import MAX_FAILURES, run_scheduled
from ops.errors import AlreadyRunning, LeaseLost
from tests.bundling import (
    UNUSUAL_MESSAGES,
    archive_all,
    make_idle,
    numbered_messages,
    storage_state,
    stored_messages,
    unthrottled,
)
from tests.factories import LoggedInUser
from tests.ops.archive.conftest import Execute
from tests.waiting import wait_until

BUNDLED = ("archived", "bundled", 0, 1)
LIVE = ("active", "live", 3, 0)


def test_run_bundles_only_idle_conversations(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    days = lambda count: datetime.now(UTC) - timedelta(days=count)  # noqa: E731
    taken = [
        make_idle(engine, user, numbered_messages(3)),
        make_idle(engine, user, numbered_messages(3), status="archived"),
        make_idle(engine, user, UNUSUAL_MESSAGES, updated_at=days(91)),
        make_idle(engine, user, [], updated_at=days(91)),
        make_idle(engine, user, numbered_messages(3), revived_at=days(91)),
    ]
    left = [
        make_idle(engine, user, numbered_messages(3), updated_at=days(89)),
        make_idle(engine, user, numbered_messages(3), revived_at=days(1)),
        make_idle(engine, user, numbered_messages(3), legal_hold=True),
        make_idle(engine, user, numbered_messages(3), running_attempt=new_id()),
    ]
    done = archive_all(flask_app)
    assert [storage_state(engine, conversation) for conversation in taken] == [BUNDLED] * 5
    assert [storage_state(engine, conversation) for conversation in left] == [LIVE] * 4
    assert (done.state, done.conversations, done.messages) == ("completed", 5, 9 + len(UNUSUAL_MESSAGES))
    assert (done.skipped, done.rejected, done.reason) == (0, 0, None)
    assert done.examined >= 9
    assert 0 < done.bundle_bytes < done.plain_bytes


def test_bundle_is_compressed_with_a_checksum(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    conversation = make_idle(engine, user, numbered_messages(1_000))
    done = archive_all(flask_app)
    [row] = execute("SELECT * FROM conversation_archives WHERE conversation_id = :c", c=conversation)
    assert (row.user_id, row.run_id, row.message_count, row.previous_status) == (user.id, done.id, 1_000, "active")
    assert len(row.bundle) * 3 < row.plain_bytes


def test_run_stops_at_its_message_limit_and_resumes(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversations = sorted(make_idle(engine, user, numbered_messages(400)) for _ in range(5))
    stopped = archive_all(flask_app, messages=800)
    assert (stopped.state, stopped.conversations, stopped.messages) == ("stopped", 2, 800)
    assert "800 messages" in str(stopped.reason)
    assert [storage_state(engine, conversation) == BUNDLED for conversation in conversations] == [
        True,
        True,
        False,
        False,
        False,
    ]
    with flask_app.app_context():
        left = plan(resume=stopped.id)
        assert (left.conversations, left.messages, left.complete) == (3, 1_200, True)
    done = archive_all(flask_app, resume=stopped.id)
    assert (done.id, done.cutoff) == (stopped.id, stopped.cutoff)
    assert (done.state, done.conversations, done.messages, done.reason) == ("completed", 5, 2_000, None)
    assert done.examined == archive_all(flask_app).examined
    with pytest.raises(InvalidInput, match="has completed"):
        archive_all(flask_app, resume=stopped.id)
    with pytest.raises(NotFound):
        archive_all(flask_app, resume=new_id())


def test_run_stops_at_its_time_limit(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    stopped = archive_all(flask_app, seconds=0.0)
    assert (stopped.state, stopped.reason, stopped.conversations) == ("stopped", "its time limit was reached", 0)
    assert archive_all(flask_app, resume=stopped.id).conversations == 1
    assert storage_state(engine, conversation) == BUNDLED


def test_plan_counts_and_changes_nothing(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    with flask_app.app_context():
        found = plan()
    assert (found.conversations, found.messages) == (1, 3)
    assert found.oldest is not None
    assert found.oldest > timedelta(days=2_000)
    assert storage_state(engine, conversation) == LIVE


def test_missing_search_document_is_written_before_bundling(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3), title="Title")
    document = "SELECT document::text FROM search_documents WHERE conversation_id = :c"
    assert execute(document, c=conversation) == []
    archive_all(flask_app)
    [row] = execute(document, c=conversation)
    assert "'message'" in row.document
    assert storage_state(engine, conversation) == BUNDLED


def test_conversation_with_a_wrong_count_is_unfit(
    flask_app: Flask, engine: Engine, user: LoggedInUser, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = make_idle(engine, user, numbered_messages(3), message_count=4, next_position=6)
    right = make_idle(engine, user, numbered_messages(3))
    done = archive_all(flask_app)
    assert (done.state, done.conversations, done.rejected) == ("completed", 1, 1)
    assert (storage_state(engine, wrong), storage_state(engine, right)) == (LIVE, BUNDLED)
    assert "it has 3 messages, but its row counts 4" in caplog.text


def test_too_large_conversation_is_unfit(
    flask_app: Flask, engine: Engine, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    monkeypatch.setattr(batch, "MAX_BUNDLE_BYTES", 10)
    assert archive_all(flask_app).rejected == 1
    assert storage_state(engine, conversation) == LIVE


def test_long_conversations_are_deleted_in_steps(
    flask_app: Flask, engine: Engine, user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "DELETE_STEP", 7)
    long, short = make_idle(engine, user, numbered_messages(50)), make_idle(engine, user, numbered_messages(3))
    assert archive_all(flask_app).messages == 53
    assert (storage_state(engine, long), storage_state(engine, short)) == (BUNDLED, BUNDLED)


@contextmanager
def altered_by_trigger(execute: Execute, table: str, event: str, body: str) -> Iterator[None]:
    """Create a row trigger with the body `body` during the block."""
    execute(f"CREATE FUNCTION alter_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    execute(f"CREATE TRIGGER alter_row BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION alter_row()")
    try:
        yield
    finally:
        execute(f"DROP TRIGGER alter_row ON {table}")
        execute("DROP FUNCTION alter_row()")


ALTERATIONS = {
    "a message is not deleted": ("messages", "DELETE", "IF OLD.position = 2 THEN RETURN NULL; END IF; RETURN OLD;"),
    "a bundle is not stored": ("conversation_archives", "INSERT", "RETURN NULL;"),
    "a byte of it is changed": (
        "conversation_archives",
        "INSERT",
        "NEW.bundle := set_byte(NEW.bundle, 20, get_byte(NEW.bundle, 20) # 1); RETURN NEW;",
    ),
    "its checksum is changed": (
        "conversation_archives",
        "INSERT",
        "NEW.sha256 := set_byte(NEW.sha256, 0, get_byte(NEW.sha256, 0) # 1); RETURN NEW;",
    ),
    "the conversation stays as it was": (
        "conversations",
        "UPDATE",
        "IF NEW.storage = 'bundled' THEN RETURN NULL; END IF; RETURN NEW;",
    ),
}


@pytest.mark.parametrize("alteration", ALTERATIONS.values(), ids=ALTERATIONS)
def test_failed_bundle_check_commits_nothing(
    flask_app: Flask,
    engine: Engine,
    user: LoggedInUser,
    execute: Execute,
    alteration: tuple[str, str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversations = [make_idle(engine, user, numbered_messages(3)) for _ in range(2)]
    before = [stored_messages(engine, conversation) for conversation in conversations]
    with altered_by_trigger(execute, *alteration):
        done = archive_all(flask_app)
    assert (done.state, done.conversations, done.rejected) == ("completed", 0, 2)
    assert "BundleCheckFailed" in caplog.text
    assert [storage_state(engine, conversation) for conversation in conversations] == [LIVE, LIVE]
    assert [stored_messages(engine, conversation) for conversation in conversations] == before


def test_unfit_conversation_does_not_stop_the_others(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute, caplog: pytest.LogCaptureFixture
) -> None:
    conversations = sorted(make_idle(engine, user, numbered_messages(3)) for _ in range(5))
    bad = conversations[2]
    body = f"IF OLD.conversation_id = '{bad}' THEN RAISE EXCEPTION 'no'; END IF; RETURN OLD;"
    with altered_by_trigger(execute, "messages", "DELETE", body):
        done = archive_all(flask_app)
    assert (done.state, done.conversations, done.rejected) == ("completed", 4, 1)
    assert [storage_state(engine, conversation) == BUNDLED for conversation in conversations] == [
        True,
        True,
        False,
        True,
        True,
    ]
    [record] = [record for record in caplog.records if record.name == "parley.archives"]
    assert record.conversation_id == str(bad)  # type: ignore[attr-defined]


def test_too_many_failures_stop_the_run(flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute) -> None:
    conversations = [make_idle(engine, user, numbered_messages(3)) for _ in range(MAX_FAILURES + 2)]
    full = altered_by_trigger(execute, "messages", "DELETE", "RAISE EXCEPTION 'the disk is full';")
    with full, pytest.raises(DBAPIError, match="the disk is full"):
        archive_all(flask_app)
    [row] = execute("SELECT state, reason, rejected FROM archive_runs ORDER BY started_at DESC LIMIT 1")
    assert (row.state, row.rejected) == ("failed", MAX_FAILURES)
    assert "the disk is full" in row.reason
    assert [storage_state(engine, conversation) for conversation in conversations] == [LIVE] * len(conversations)


def test_second_run_is_refused(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    make_idle(engine, user, numbered_messages(3))
    inside, go_on = threading.Event(), threading.Event()

    def make_throttle(connection: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return unthrottled(connection)

    done: list[Any] = []

    def first() -> None:
        with flask_app.app_context():
            done.append(archive_all(flask_app, make_throttle=make_throttle))

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    try:
        with pytest.raises(AlreadyRunning):
            archive_all(flask_app)
        with flask_app.app_context():
            report = run_scheduled(make_throttle=unthrottled)
        assert report is not None
        assert report.state == "running"
    finally:
        go_on.set()
        thread.join(60)
    assert done[0].conversations == 1


def test_scheduled_run_begins_once_a_day_and_resumes(
    flask_app: Flask, engine: Engine, user: LoggedInUser, execute: Execute
) -> None:
    def scheduled() -> Any:
        with flask_app.app_context():
            return run_scheduled(make_throttle=unthrottled)

    execute("DELETE FROM archive_runs")
    make_idle(engine, user, numbered_messages(3))
    first = scheduled()
    assert (first.state, first.conversations) == ("completed", 1)
    make_idle(engine, user, numbered_messages(3))
    assert scheduled() is None  # today's has completed
    execute("UPDATE archive_runs SET state = 'running', finished_at = NULL, cursor_user_id = NULL")  # it was killed
    second = scheduled()
    assert (second.id, second.state, second.conversations) == (first.id, "completed", 2)
    execute("UPDATE archive_runs SET started_at = started_at - interval '1 day', state = 'stopped'")
    make_idle(engine, user, numbered_messages(3), id=UUID(int=1))
    third = scheduled()  # yesterday's is brought to its end, and today's begins
    assert (third.id != first.id, third.state, third.conversations) == (True, "completed", 1)


def test_run_does_nothing_while_archival_is_off(settings: Settings, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    off = create_app(replace(settings, archive=settings.archive.model_copy(update={"after_days": 0})))
    with off.app_context():
        assert run_scheduled(make_throttle=unthrottled) is None
        db.engine.dispose()
    with pytest.raises(InvalidInput, match="ARCHIVE_AFTER_DAYS is 0"):
        archive_all(off)
    with off.app_context():
        db.engine.dispose()
    assert storage_state(engine, conversation) == LIVE


def test_lost_lease_stops_the_run(flask_app: Flask, execute: Execute) -> None:
    def lose_lease() -> None:
        with archival_lock() as lease:
            execute("UPDATE leases SET holder = :other WHERE name = 'archive'", other=new_id())
            wait_until(lambda: not lease.is_held)
            lease.require()

    with flask_app.app_context():
        with pytest.raises(LeaseLost):
            lose_lease()
        execute("DELETE FROM leases WHERE name = 'archive'")
