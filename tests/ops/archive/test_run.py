"""Runs of the archival: what they take, what they leave alone, how they stop and go on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.config import Settings
from app.errors import InvalidInput, NotFound
from app.extensions import db
from app.factory import create_app
from app.models.columns import new_id
from ops.archive import batch
from ops.archive.alone import alone
from ops.archive.plan import plan
from ops.archive.run import MOST_FAILURES, run_scheduled
from ops.errors import AnotherRunIsUnderWay
from tests.archived import EVERYTHING, archive_all, calm, make_idle, place, plain, stored
from tests.factories import Account
from tests.ops.archive.conftest import Execute

BUNDLED = ("archived", "bundled", 0, 1)
LIVE = ("active", "live", 3, 0)


def test_what_is_idle_is_archived_and_nothing_else(flask_app: Flask, engine: Engine, user: Account) -> None:
    days = lambda count: datetime.now(UTC) - timedelta(days=count)  # noqa: E731
    taken = [
        make_idle(engine, user, plain(3)),
        make_idle(engine, user, plain(3), status="archived"),
        make_idle(engine, user, EVERYTHING, updated_at=days(91)),
        make_idle(engine, user, [], updated_at=days(91)),
        make_idle(engine, user, plain(3), revived_at=days(91)),
    ]
    left = [
        make_idle(engine, user, plain(3), updated_at=days(89)),
        make_idle(engine, user, plain(3), revived_at=days(1)),
        make_idle(engine, user, plain(3), legal_hold=True),
        make_idle(engine, user, plain(3), running_attempt=new_id()),
    ]
    done = archive_all(flask_app)
    assert [place(engine, each) for each in taken] == [BUNDLED] * 5
    assert [place(engine, each) for each in left] == [LIVE] * 4
    assert (done.state, done.conversations, done.messages) == ("completed", 5, 9 + len(EVERYTHING))
    assert (done.passed_over, done.unfit, done.reason) == (0, 0, None)
    assert done.seen >= 9
    assert 0 < done.bundle_bytes < done.plain_bytes


def test_a_bundle_is_small_and_says_what_it_is(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    conversation = make_idle(engine, user, plain(1_000))
    done = archive_all(flask_app)
    [row] = execute("SELECT * FROM conversation_archives WHERE conversation_id = :c", c=conversation)
    assert (row.user_id, row.run_id, row.message_count, row.previous_status) == (user.id, done.id, 1_000, "active")
    assert len(row.bundle) * 3 < row.plain_bytes


def test_it_stops_at_its_bounds_and_goes_on_from_there(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversations = sorted(make_idle(engine, user, plain(400)) for _ in range(5))
    stopped = archive_all(flask_app, messages=800)
    assert (stopped.state, stopped.conversations, stopped.messages) == ("stopped", 2, 800)
    assert "800 messages" in str(stopped.reason)
    assert [place(engine, each) == BUNDLED for each in conversations] == [True, True, False, False, False]
    with flask_app.app_context():
        left = plan(resume=stopped.id)
        assert (left.conversations, left.messages, left.complete) == (3, 1_200, True)
    done = archive_all(flask_app, resume=stopped.id)
    assert (done.id, done.cutoff) == (stopped.id, stopped.cutoff)
    assert (done.state, done.conversations, done.messages, done.reason) == ("completed", 5, 2_000, None)
    assert done.seen == archive_all(flask_app).seen
    with pytest.raises(InvalidInput, match="has completed"):
        archive_all(flask_app, resume=stopped.id)
    with pytest.raises(NotFound):
        archive_all(flask_app, resume=new_id())


def test_time_that_is_up_stops_it(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(3))
    stopped = archive_all(flask_app, seconds=0.0)
    assert (stopped.state, stopped.reason, stopped.conversations) == ("stopped", "its time was up", 0)
    assert archive_all(flask_app, resume=stopped.id).conversations == 1
    assert place(engine, conversation) == BUNDLED


def test_a_plan_counts_and_changes_nothing(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(3))
    with flask_app.app_context():
        found = plan()
    assert (found.conversations, found.messages) == (1, 3)
    assert found.oldest is not None
    assert found.oldest > timedelta(days=2_000)
    assert place(engine, conversation) == LIVE


def test_a_missing_search_document_is_written_first(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    conversation = make_idle(engine, user, plain(3), title="Title")
    document = "SELECT document::text FROM conversation_search WHERE conversation_id = :c"
    assert execute(document, c=conversation) == []
    archive_all(flask_app)
    [row] = execute(document, c=conversation)
    assert "'message'" in row.document
    assert "'title'" in row.document
    assert place(engine, conversation) == BUNDLED


def test_a_conversation_whose_count_is_wrong_is_left_alone(
    flask_app: Flask, engine: Engine, user: Account, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = make_idle(engine, user, plain(3), message_count=4, next_position=6)
    right = make_idle(engine, user, plain(3))
    done = archive_all(flask_app)
    assert (done.state, done.conversations, done.unfit) == ("completed", 1, 1)
    assert (place(engine, wrong), place(engine, right)) == (LIVE, BUNDLED)
    assert "it has 3 messages and says that it has 4" in caplog.text


def test_one_that_is_too_large_is_left_alone(
    flask_app: Flask, engine: Engine, user: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = make_idle(engine, user, plain(3))
    monkeypatch.setattr(batch, "LARGEST", 10)
    assert archive_all(flask_app).unfit == 1
    assert place(engine, conversation) == LIVE


def test_long_conversations_are_deleted_in_steps(
    flask_app: Flask, engine: Engine, user: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "DELETED_AT_ONCE", 7)
    long, short = make_idle(engine, user, plain(50)), make_idle(engine, user, plain(3))
    assert archive_all(flask_app).messages == 53
    assert (place(engine, long), place(engine, short)) == (BUNDLED, BUNDLED)


@contextmanager
def meddling(execute: Execute, table: str, event: str, does: str) -> Iterator[None]:
    """A database that does something else than it was told: a trigger on each row."""
    execute(f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does} END $$")
    execute(f"CREATE TRIGGER meddle BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION meddle()")
    try:
        yield
    finally:
        execute(f"DROP TRIGGER meddle ON {table}")
        execute("DROP FUNCTION meddle()")


MEDDLINGS = {
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


@pytest.mark.parametrize("how", MEDDLINGS.values(), ids=MEDDLINGS)
def test_nothing_is_committed_that_is_not_proven(
    flask_app: Flask,
    engine: Engine,
    user: Account,
    execute: Execute,
    how: tuple[str, str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversations = [make_idle(engine, user, plain(3)) for _ in range(2)]
    before = [stored(engine, each) for each in conversations]
    with meddling(execute, *how):
        done = archive_all(flask_app)
    assert (done.state, done.conversations, done.unfit) == ("completed", 0, 2)
    assert "NotProven" in caplog.text
    assert [place(engine, each) for each in conversations] == [LIVE, LIVE]
    assert [stored(engine, each) for each in conversations] == before


def test_one_bad_conversation_does_not_stop_the_others(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute, caplog: pytest.LogCaptureFixture
) -> None:
    conversations = sorted(make_idle(engine, user, plain(3)) for _ in range(5))
    bad = conversations[2]
    does = f"IF OLD.conversation_id = '{bad}' THEN RAISE EXCEPTION 'no'; END IF; RETURN OLD;"
    with meddling(execute, "messages", "DELETE", does):
        done = archive_all(flask_app)
    assert (done.state, done.conversations, done.unfit) == ("completed", 4, 1)
    assert [place(engine, each) == BUNDLED for each in conversations] == [True, True, False, True, True]
    [record] = [record for record in caplog.records if record.name == "parley.archives"]
    assert record.conversation_id == str(bad)  # type: ignore[attr-defined]


def test_too_many_bad_ones_stop_it(flask_app: Flask, engine: Engine, user: Account, execute: Execute) -> None:
    conversations = [make_idle(engine, user, plain(3)) for _ in range(MOST_FAILURES + 2)]
    full = meddling(execute, "messages", "DELETE", "RAISE EXCEPTION 'the disk is full';")
    with full, pytest.raises(DBAPIError, match="the disk is full"):
        archive_all(flask_app)
    [row] = execute("SELECT state, reason, unfit FROM archive_runs ORDER BY started_at DESC LIMIT 1")
    assert (row.state, row.unfit) == ("failed", MOST_FAILURES)
    assert "the disk is full" in row.reason
    assert [place(engine, each) for each in conversations] == [LIVE] * len(conversations)


def test_only_one_at_a_time(flask_app: Flask, engine: Engine, user: Account) -> None:
    make_idle(engine, user, plain(3))
    inside, go_on = threading.Event(), threading.Event()

    def held(connection: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return calm(connection)

    done: list[Any] = []

    def first() -> None:
        with flask_app.app_context():
            done.append(archive_all(flask_app, make_load=held))

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    try:
        with pytest.raises(AnotherRunIsUnderWay):
            archive_all(flask_app)
        with flask_app.app_context():
            told = run_scheduled(make_load=calm)
        assert told is not None
        assert told.state == "running"
    finally:
        go_on.set()
        thread.join(60)
    assert done[0].conversations == 1


def test_the_clock_begins_one_run_a_day_and_goes_on_with_it(
    flask_app: Flask, engine: Engine, user: Account, execute: Execute
) -> None:
    def scheduled() -> Any:
        with flask_app.app_context():
            return run_scheduled(make_load=calm)

    execute("DELETE FROM archive_runs")
    make_idle(engine, user, plain(3))
    first = scheduled()
    assert (first.state, first.conversations) == ("completed", 1)
    make_idle(engine, user, plain(3))
    assert scheduled() is None  # today's has completed
    execute("UPDATE archive_runs SET state = 'running', finished_at = NULL, cursor_user_id = NULL")  # it was killed
    second = scheduled()
    assert (second.id, second.state, second.conversations) == (first.id, "completed", 2)
    execute("UPDATE archive_runs SET started_at = started_at - interval '1 day', state = 'stopped'")
    make_idle(engine, user, plain(3), id=UUID(int=1))
    third = scheduled()  # yesterday's is brought to its end, and today's begins
    assert (third.id != first.id, third.state, third.conversations) == (True, "completed", 1)


def test_switched_off_it_does_nothing(settings: Settings, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(3))
    off = create_app(replace(settings, archive=settings.archive.model_copy(update={"after_days": 0})))
    with off.app_context():
        assert run_scheduled(make_load=calm) is None
        db.engine.dispose()
    with pytest.raises(InvalidInput, match="ARCHIVE_AFTER_DAYS is 0"):
        archive_all(off)
    with off.app_context():
        db.engine.dispose()
    assert place(engine, conversation) == LIVE


def test_what_ends_the_connection_that_holds_the_lock_is_what_is_told(flask_app: Flask, execute: Execute) -> None:
    """Not that the lock could not be given back on it: that is gone with it."""

    def lose_it() -> None:
        with alone() as connection:
            [[pid]] = connection.execute(text("SELECT pg_backend_pid()"))
            execute("SELECT pg_terminate_backend(:pid)", pid=pid)
            connection.execute(text("SELECT 1"))

    with flask_app.app_context():
        with pytest.raises(OperationalError):
            lose_it()
        with alone():  # nobody holds it any more
            pass
