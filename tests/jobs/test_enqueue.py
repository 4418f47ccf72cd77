"""Asking for a job: after the commit, not after a rollback, whatever savepoints there were. On a real Redis."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redis
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.jobs import INTERACTIVE, MOST_WAITING, JobQueue, Message, enqueue, enqueue_after_commit
from app.models.columns import new_id
from app.services.transactions import transaction

WAIT = 60  # seconds, only reached by a fault


@pytest.fixture(scope="module")
def asking(settings: Settings, broker: str, engine: Engine) -> Iterator[Flask]:
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    flask_app = create_app(replace(settings, jobs=jobs))
    with flask_app.app_context():
        yield flask_app
        db.engine.dispose()


@pytest.fixture
def sent(asking: Flask, queue: "redis.Redis[bytes]") -> Callable[[], list[str]]:
    """A function that returns the words that have been sent, in order."""
    queue.delete(INTERACTIVE)

    def sent() -> list[str]:
        assert asking.extensions["jobs"].drain(WAIT)
        messages = [orjson.loads(raw) for raw in reversed(queue.lrange(INTERACTIVE, 0, -1))]
        return [message["headers"]["kwargsrepr"] for message in messages]

    return sent


def words(*expected: str) -> list[str]:
    return [f"{{'word': '{word}'}}" for word in expected]


def ask(session: Session, word: str) -> None:
    enqueue_after_commit(session, "sample.echo", word=word)


def write(session: Session) -> Any:
    key = new_id().hex
    session.execute(text("INSERT INTO settings (key, value) VALUES (:key, '1')"), {"key": key})
    return key


def test_a_message_says_what_it_is(asking: Flask, sent: Callable[[], list[str]], queue: "redis.Redis[bytes]") -> None:
    with asking.test_request_context(headers={"X-Request-ID": "asked-here"}):
        asking.preprocess_request()
        enqueue("sample.echo", word="now", owner=(owner := new_id()))
    sent()
    message = orjson.loads(queue.lindex(INTERACTIVE, 0))
    headers = message["headers"]
    assert (headers["task"], headers["request_id"]) == ("sample.echo", "asked-here")
    assert headers["queued_at"].endswith("+00:00")
    assert message["content-type"] == "application/json"
    assert str(owner) in headers["kwargsrepr"]


def test_nothing_leaves_before_the_commit(asking: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        write(session)
        ask(session, "first")
        ask(session, "second")
        assert sent() == []
        session.commit()
        assert sent() == words("first", "second")
        write(session)
        session.commit()
        assert sent() == words("first", "second")


def test_a_rollback_forgets(asking: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        write(session)
        ask(session, "never")
        session.rollback()
        write(session)
        session.commit()
    assert sent() == []


def test_a_failing_transaction_sends_nothing(asking: Flask, sent: Callable[[], list[str]]) -> None:
    def fail() -> None:
        with transaction() as session:
            write(session)
            ask(session, "never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with transaction() as session:
        write(session)
        ask(session, "done")
    assert sent() == words("done")


def test_a_session_that_is_closed_without_a_commit_forgets(asking: Flask, sent: Callable[[], list[str]]) -> None:
    session = Session(db.engine)
    write(session)
    ask(session, "never")
    session.close()
    write(session)
    session.commit()
    session.close()
    assert sent() == []


def test_asking_before_the_transaction_has_begun(asking: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        ask(session, "early")
        write(session)
        session.commit()
    assert sent() == words("early")


def test_a_savepoint_is_no_commit(asking: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        write(session)
        ask(session, "outside")
        with session.begin_nested():
            write(session)
            ask(session, "inside")
        assert sent() == []
        session.commit()
    assert sent() == words("outside", "inside")


def test_going_back_to_a_savepoint_forgets_what_was_asked_for_since(
    asking: Flask, sent: Callable[[], list[str]]
) -> None:
    with Session(db.engine) as session:
        write(session)
        ask(session, "before")
        savepoint = session.begin_nested()
        ask(session, "lost")
        with session.begin_nested():
            ask(session, "lost too, although its own savepoint was released")
        savepoint.rollback()
        ask(session, "after")
        session.commit()
    assert sent() == words("before", "after")


def test_everything_is_lost_with_the_outer_transaction(asking: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        with session.begin_nested():
            ask(session, "inside")
        session.rollback()
        session.commit()
    assert sent() == []


def test_a_commit_that_fails_sends_nothing(asking: Flask, sent: Callable[[], list[str]]) -> None:
    """The database goes away between the statement and the commit."""
    with Session(db.engine) as session:
        write(session)
        ask(session, "never")
        pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with db.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(Exception, match=r"terminat|closed"):
            session.commit()
    assert sent() == []


def test_without_a_broker_nothing_is_sent_and_nobody_is_bothered(flask_app: Flask) -> None:
    with flask_app.app_context():
        enqueue("sample.echo", word="to nobody")
    assert flask_app.extensions["jobs"].counts["dropped"] >= 1


def test_a_full_queue_drops_and_counts() -> None:
    everything_is_put = threading.Event()

    def unreachable() -> str:
        everything_is_put.wait(WAIT)
        raise ConnectionError("nobody is there")

    jobs = JobQueue(unreachable)
    for number in range(2 * MOST_WAITING):
        jobs.put(Message("sample.echo", {"number": number}))
    assert MOST_WAITING - jobs.counts["dropped"] in (0, 1)  # the sender may hold one
    everything_is_put.set()
    assert jobs.drain(WAIT)
    assert jobs.counts == {"dropped": 2 * MOST_WAITING}
