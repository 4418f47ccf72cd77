"""Every turn that began ends: the end is stored, sent to its readers, and the turn leaves memory."""

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from werkzeug.test import TestResponse

from app.container import services
from app.extensions import db
from app.turns.stream import RunningTurn
from tests.api.conftest import events_of
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def answer_named(finish: str, model: str) -> Script:
    """Return a script with this finish reason and model name."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "answer"}, model=model))
        await exchange.event(scripts.chunk({}, finish, model=model))
        await exchange.send(scripts.DONE)
        await exchange.end()

    return script


def until_set(release: threading.Event) -> Script:
    """Return a script whose answer ends once `release` is set."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "word0 "}))
        while not release.is_set():
            await exchange.pause(0.05)
        await exchange.event(scripts.chunk({}, "stop"))
        await exchange.send(scripts.DONE)
        await exchange.end()

    return script


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("finish", "model"), [("f" * 99, "model"), ("stop", "m" * 254), ("f" * 500, "m" * 500)])
def test_long_finish_reason_or_model_name_does_not_lose_the_answer(
    chat: Chat, upstream: Upstream, finish: str, model: str
) -> None:
    upstream.script = answer_named(finish, model)
    answer = chat("hello")
    assert answer.status_code == 200, answer.json
    assert answer.get_json()["message"]["content"] == "answer"


@pytest.mark.timeout(30)
def test_finished_turns_leave_memory(chat: Chat, upstream: Upstream, chat_app: Flask) -> None:
    for number in range(10):
        chat(f"message {number}")
        events_of(chat(f"message {number}", stream=True))
    upstream.script = scripts.api_error(500)
    chat("fails")
    response = chat("disconnects", stream=True)
    response.close()
    upstream.wait_for(lambda: upstream.open_streams == 0)
    with chat_app.app_context():
        engine = services().turns
    wait_until(lambda: engine.running == 0, "a turn is still running")
    del response

    def none_in_memory() -> bool:
        gc.collect()
        return not any(isinstance(item, RunningTurn) for item in gc.get_objects())

    # A heartbeat in progress still refers to the turns that it updates.
    wait_until(none_in_memory, "a turn is still in memory", timeout=10)


def test_heartbeat_thread_survives_an_unexpected_error(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    """Without the thread, every later turn of the process would become stale."""
    chat_app = make_chat_app()
    with chat_app.app_context():
        engine = db.engines["heartbeats"]
    failed = threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def fail_once(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "turns.heartbeat" in statement and not failed.is_set():
            failed.set()
            raise RuntimeError("unexpected")

    def send(message: str) -> TestResponse:
        return chat_app.test_client().post("/api/chat", json={"message": message}, headers=user.headers)

    upstream.script = scripts.words(3, pause=0.7)
    assert send("the heartbeat fails").status_code == 200
    assert failed.is_set()
    assert send("the next one").status_code == 200
    [row] = rows(
        "SELECT heartbeat_at > started_at AS updated FROM turns WHERE user_id = :u ORDER BY started_at DESC LIMIT 1",
        u=user.id,
    )
    assert row.updated


@pytest.fixture
def last_heartbeat(rows: Rows) -> Callable[[str], Any]:
    """Return a function that returns the last heartbeat of the running turn with a message; None without one."""

    def read(message: str) -> Any:
        turns = rows(
            """SELECT turns.heartbeat_at FROM turns JOIN messages ON messages.turn_id = turns.id
                WHERE messages.content = :m AND turns.status = 'running'""",
            m=message,
        )
        return turns[0].heartbeat_at if turns else None

    return read


def test_locked_turn_does_not_delay_heartbeats_of_other_turns(
    chat: Chat, upstream: Upstream, other_user: LoggedInUser, engine: Engine, last_heartbeat: Callable[[str], Any]
) -> None:
    release = threading.Event()
    upstream.script = until_set(release)
    with ThreadPoolExecutor(2) as threads, engine.connect() as holder:
        pending = [threads.submit(chat, "held"), threads.submit(chat, "free", account=other_user)]
        wait_until(lambda: last_heartbeat("held") and last_heartbeat("free"), "the turns have not started")
        query = (
            "SELECT heartbeat_at FROM turns JOIN messages ON turn_id = id WHERE content = 'held' FOR UPDATE OF turns"
        )
        held = holder.execute(text(query)).scalar_one()
        before = last_heartbeat("free")
        wait_until(lambda: last_heartbeat("free") > before, "no heartbeat of the other turn")
        assert last_heartbeat("held") == held
        holder.rollback()
        wait_until(lambda: last_heartbeat("held") > held, "no heartbeat of the turn that was locked")
        release.set()
        assert {future.result().status_code for future in pending} == {200}


def test_exhausted_pool_does_not_stop_heartbeats(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, last_heartbeat: Callable[[str], Any]
) -> None:
    chat_app, release = make_chat_app(database={"pool_size": 1, "max_overflow": 0}), threading.Event()
    upstream.script = until_set(release)

    def send() -> TestResponse:
        return chat_app.test_client().post("/api/chat", json={"message": "alone"}, headers=user.headers)

    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(send)
        before = wait_until(lambda: last_heartbeat("alone"), "the turn has not started")
        with chat_app.app_context(), db.engine.connect():
            wait_until(lambda: last_heartbeat("alone") > before, "no heartbeat")
        release.set()
        assert pending.result().status_code == 200
    with chat_app.app_context():
        pool: Any = db.engines["heartbeats"].pool
    wait_until(lambda: pool.checkedin() + pool.checkedout() == 0, "the connection of the heartbeats is still open")


def test_thread_that_cannot_start_ends_its_turn_as_overloaded(
    make_chat_app: Callable[..., Flask], user: LoggedInUser, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_app = make_chat_app()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "turn":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    answer = chat_app.test_client().post("/api/chat", json={"message": "hello"}, headers=user.headers)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "overloaded")
    with chat_app.app_context():
        assert services().turns.running == 0
    assert turn_ends(rows, user) == [("failed", "overloaded", None)]


def turn_ends(rows: Rows, account: LoggedInUser) -> list[tuple[str, str | None, Any]]:
    """Return (status, error code, lease of its conversation) of each turn of the account, oldest first."""
    ends = rows(
        """SELECT t.status, t.error->>'code', c.running_attempt FROM turns t JOIN conversations c
               ON c.user_id = t.user_id AND c.id = t.conversation_id WHERE t.user_id = :u ORDER BY t.started_at""",
        u=account.id,
    )
    return [tuple(row) for row in ends]


# Two ways in which PostgreSQL refuses an answer every time: (statement to start it, statement to end it).
REFUSALS = [
    (
        "ALTER TABLE messages ADD CONSTRAINT never CHECK (role <> 'assistant') NOT VALID",
        "ALTER TABLE messages DROP CONSTRAINT never",
    ),
    (
        """CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
           CREATE TRIGGER never BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.role = 'assistant')
                          EXECUTE FUNCTION never()""",
        "DROP FUNCTION never() CASCADE",
    ),
]


@pytest.mark.timeout(30)  # shorter than the wait for an unreachable database
@pytest.mark.parametrize(("refuse", "allow"), REFUSALS, ids=["constraint", "trigger"])
def test_answer_that_can_never_be_stored_fails_its_turn(
    chat: Chat, user: LoggedInUser, engine: Engine, rows: Rows, refuse: str, allow: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(refuse))
    try:
        answer = chat("hello")
        events = events_of(chat("hello", stream=True))
    finally:
        with engine.begin() as connection:
            connection.execute(text(allow))
    assert answer.status_code == 503
    assert "could not be stored" in answer.get_json()["detail"]
    assert events[-1][1] == "turn.failed"
    assert events[-2][1] == "turn.restarted"  # readers discard the answer that is not stored
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    assert turn_ends(rows, user) == [("failed", "database_unavailable", None)] * 2
    assert chat("after it", conversation_id=answer.get_json()["conversation_id"]).status_code == 200


@pytest.mark.timeout(30)
def test_history_that_cannot_be_read_fails_the_turn(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, engine: Engine, rows: Rows
) -> None:
    """The begin waited for the conversation's row, so the history is read a second time, which fails."""
    chat_app = make_chat_app()
    client = chat_app.test_client()

    def send(message: str, **body: Any) -> TestResponse:
        return client.post("/api/chat", json={"message": message, **body}, headers=user.headers)

    conversation = send("first").get_json()["conversation"]["id"]
    requests = len(upstream.requests)
    with chat_app.app_context():
        own_engine = db.engine

    @event.listens_for(own_engine, "before_cursor_execute", retval=True)
    def cancel_history_query(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        if "turns.reread_history" in statement:  # PostgreSQL cancels it exactly here
            cursor.execute("SELECT pg_cancel_backend(pg_backend_pid())")
        return statement, parameters

    waiting = text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%turns.begin %'")
    with ThreadPoolExecutor(1) as threads, engine.begin() as holder:
        holder.execute(
            text("""UPDATE conversations SET next_position = next_position + 1, message_count = message_count + 1
                     WHERE user_id = :u AND id = :c"""),
            {"u": user.id, "c": conversation},
        )
        holder.execute(
            text("""INSERT INTO messages (user_id, conversation_id, position, role, content)
                    VALUES (:u, :c, 3, 'assistant', 'in the meantime')"""),
            {"u": user.id, "c": conversation},
        )
        pending = threads.submit(send, "second", conversation_id=conversation)
        # Each poll needs a new snapshot.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as observer:
            wait_until(lambda: observer.execute(waiting).first(), "the begin does not wait")
        holder.commit()
        answer = pending.result()
    assert answer.status_code == 503, answer.get_data()
    assert answer.get_json()["code"] == "database_unavailable"
    assert len(upstream.requests) == requests
    assert turn_ends(rows, user) == [("completed", None, None), ("failed", "database_unavailable", None)]


def test_lease_without_turn_blocks_only_until_it_is_stale(
    chat: Chat, user: LoggedInUser, engine: Engine, rows: Rows
) -> None:
    conversation = chat("first").get_json()["conversation"]["id"]

    def delete_turns(updated_at: str) -> None:
        with engine.begin() as connection:
            connection.execute(
                text(f"""WITH deleted AS (DELETE FROM turns WHERE user_id = :u)
                         UPDATE conversations SET running_attempt = gen_random_uuid(), created_at = {updated_at},
                                updated_at = {updated_at} WHERE user_id = :u"""),
                {"u": user.id},
            )

    delete_turns("now()")
    assert chat("second", conversation_id=conversation).get_json()["code"] == "conversation_busy"
    delete_turns("now() - interval '1 hour'")
    assert chat("third", conversation_id=conversation).status_code == 200
    assert turn_ends(rows, user) == [("completed", None, None)]


def test_user_deleted_while_a_turn_begins_gets_401(chat: Chat, user: LoggedInUser, engine: Engine) -> None:
    waiting = text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%turns.begin_new %'")
    with ThreadPoolExecutor(1) as threads, engine.begin() as eraser:
        eraser.execute(text("DELETE FROM users WHERE id = :u"), {"u": user.id})
        pending = threads.submit(chat, "hello")
        # Each poll needs a new snapshot.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as observer:
            wait_until(lambda: observer.execute(waiting).first(), "the begin does not wait")
        eraser.commit()
        answer = pending.result()
    assert (answer.status_code, answer.get_json()["code"]) == (401, "not_authenticated")
