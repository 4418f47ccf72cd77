"""Enqueueing of jobs after commit, rollback and savepoints, on a real Redis."""

import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redis
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.api.request_ids import begin_request_id
from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.ids import new_id
from app.jobs import INTERACTIVE, MAX_PENDING, JobQueue, Message, enqueue, enqueue_after_commit
from app.services.transactions import transaction
from app.trace_context import parse_trace_context, trace_context

TIMEOUT = 60  # seconds; reached only when something is broken


@pytest.fixture(scope="module")
def enqueueing(settings: Settings, broker: str, engine: Engine) -> Iterator[Flask]:
    jobs = settings.jobs.model_copy(update={"broker_url": SecretStr(broker)})
    flask_app = create_app(replace(settings, jobs=jobs))
    with flask_app.app_context():
        yield flask_app
        db.engine.dispose()


@pytest.fixture
def sent(enqueueing: Flask, queue: "redis.Redis[bytes]") -> Callable[[], list[str]]:
    """Return a function that returns the arguments of the messages sent, in order."""
    queue.delete(INTERACTIVE)

    def read_sent() -> list[str]:
        assert enqueueing.extensions["jobs"].drain(TIMEOUT)
        messages = [orjson.loads(raw) for raw in reversed(queue.lrange(INTERACTIVE, 0, -1))]
        return [message["headers"]["kwargsrepr"] for message in messages]

    return read_sent


def arguments_with(*expected: str) -> list[str]:
    """Return the arguments that messages with these words have."""
    return [f"{{'word': '{word}'}}" for word in expected]


def enqueue_word(session: Session, word: str) -> None:
    enqueue_after_commit(session, "sample.echo", word=word)


def write(session: Session) -> Any:
    """Insert a row, so that the session has a transaction."""
    key = new_id().hex
    session.execute(text("INSERT INTO settings (key, value) VALUES (:key, '1')"), {"key": key})
    return key


def test_message_has_job_request_id_trace_and_time(
    enqueueing: Flask, sent: Callable[[], list[str]], queue: "redis.Redis[bytes]"
) -> None:
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}
    owner = new_id()

    def enqueue_in_request() -> None:
        begin_request_id("request-1")
        trace_context.set(parse_trace_context(*trace.values()))
        with enqueueing.app_context():
            enqueue("sample.echo", word="now", owner=owner)

    copy_context().run(enqueue_in_request)
    sent()
    message = orjson.loads(queue.lindex(INTERACTIVE, 0))
    headers = message["headers"]
    assert (headers["task"], headers["request_id"]) == ("sample.echo", "request-1")
    assert {name: headers[name] for name in trace} == trace
    assert headers["queued_at"].endswith("+00:00")
    assert message["content-type"] == "application/json"
    assert str(owner) in headers["kwargsrepr"]


def test_messages_are_sent_after_the_commit(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        write(session)
        enqueue_word(session, "first")
        enqueue_word(session, "second")
        assert sent() == []
        session.commit()
        assert sent() == arguments_with("first", "second")
        write(session)
        session.commit()
        assert sent() == arguments_with("first", "second")


def test_rollback_drops_the_message(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        write(session)
        enqueue_word(session, "never")
        session.rollback()
        write(session)
        session.commit()
    assert sent() == []


def test_failed_transaction_sends_nothing(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    def fail() -> None:
        with transaction() as session:
            write(session)
            enqueue_word(session, "never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with transaction() as session:
        write(session)
        enqueue_word(session, "done")
    assert sent() == arguments_with("done")


def test_session_closed_without_commit_drops_the_message(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    session = Session(db.engine)
    write(session)
    enqueue_word(session, "never")
    session.close()
    write(session)
    session.commit()
    session.close()
    assert sent() == []


def test_message_enqueued_before_the_transaction_begins_is_sent(
    enqueueing: Flask, sent: Callable[[], list[str]]
) -> None:
    with Session(db.engine) as session:
        enqueue_word(session, "early")
        write(session)
        session.commit()
    assert sent() == arguments_with("early")


def test_released_savepoint_sends_nothing_before_the_commit(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        write(session)
        enqueue_word(session, "outside")
        with session.begin_nested():
            write(session)
            enqueue_word(session, "inside")
        assert sent() == []
        session.commit()
    assert sent() == arguments_with("outside", "inside")


def test_rollback_to_savepoint_drops_later_messages(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        write(session)
        enqueue_word(session, "before")
        savepoint = session.begin_nested()
        enqueue_word(session, "lost")
        with session.begin_nested():
            enqueue_word(session, "lost with the outer savepoint")
        savepoint.rollback()
        enqueue_word(session, "after")
        session.commit()
    assert sent() == arguments_with("before", "after")


def test_rollback_drops_messages_of_released_savepoints(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    with Session(db.engine) as session:
        with session.begin_nested():
            enqueue_word(session, "inside")
        session.rollback()
        session.commit()
    assert sent() == []


def test_failed_commit_sends_nothing(enqueueing: Flask, sent: Callable[[], list[str]]) -> None:
    """The connection is terminated between the statement and the commit."""
    with Session(db.engine) as session:
        write(session)
        enqueue_word(session, "never")
        pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with db.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(Exception, match=r"terminat|closed"):
            session.commit()
    assert sent() == []


def test_without_broker_messages_are_dropped_without_an_error(flask_app: Flask) -> None:
    with flask_app.app_context():
        enqueue("sample.echo", word="dropped")
    assert flask_app.extensions["jobs"].counts["dropped"] >= 1


def test_full_queue_drops_and_counts_messages() -> None:
    all_are_put = threading.Event()

    def unreachable() -> str:
        all_are_put.wait(TIMEOUT)
        raise ConnectionError("unreachable")

    jobs = JobQueue(unreachable)
    for number in range(2 * MAX_PENDING):
        jobs.put(Message("sample.echo", {"number": number}))
    assert MAX_PENDING - jobs.counts["dropped"] in (0, 1)  # the sending thread may hold one
    all_are_put.set()
    assert jobs.drain(TIMEOUT)
    assert jobs.counts == {"dropped": 2 * MAX_PENDING}
