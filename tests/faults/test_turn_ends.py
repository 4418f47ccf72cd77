"""Every turn that began comes to an end that is stored, told and forgotten."""

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, event, text
from werkzeug.test import TestResponse

from app.extensions import db
from app.services.container import services
from app.services.running_turn import RunningTurn
from tests.api.conftest import events_of
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.faults.rig import until

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def named(finish: str, model: str) -> Script:
    """An answer that ends for the reason `finish`, from a model that calls itself `model`."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "paid for"}, model=model))
        await exchange.event(scripts.chunk({}, finish, model=model))
        await exchange.send(scripts.DONE)
        await exchange.end()

    return script


def until_set(release: threading.Event) -> Script:
    """An answer that goes on until then."""

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
def test_whatever_a_provider_calls_itself_its_answer_is_kept(
    chat: Chat, upstream: Upstream, finish: str, model: str
) -> None:
    upstream.script = named(finish, model)
    answer = chat("hello")
    assert answer.status_code == 200, answer.json
    assert answer.get_json()["message"]["content"] == "paid for"


@pytest.mark.timeout(30)
def test_no_finished_turn_stays_in_memory(chat: Chat, upstream: Upstream, chat_app: Flask) -> None:
    for number in range(10):
        chat(f"message {number}")
        events_of(chat(f"message {number}", stream=True))
    upstream.script = scripts.refusal(500)
    chat("fails")
    response = chat("left", stream=True)
    response.close()
    upstream.wait_for(lambda: upstream.open_streams == 0)
    with chat_app.app_context():
        engine = services().turns
    until(lambda: engine.running == 0, "the end of every turn")
    del response

    def forgotten() -> bool:  # a tick that is under way still knows of those that it asks about
        gc.collect()
        return not any(isinstance(thing, RunningTurn) for thing in gc.get_objects())

    until(forgotten, "no turn in memory", seconds=10)


def test_the_heartbeat_survives_any_error(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, rows: Rows
) -> None:
    """Were its thread to die, each later turn of the process would go stale."""
    chat_app = make_chat_app()
    with chat_app.app_context():
        engine = db.engines["heartbeats"]
    failed = threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def fail_once(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "turns.heartbeat" in statement and not failed.is_set():
            failed.set()
            raise RuntimeError("nobody foresaw this")

    def say(message: str) -> TestResponse:
        return chat_app.test_client().post("/api/chat", json={"message": message}, headers=user.headers)

    upstream.script = scripts.words(3, pause=0.7)
    assert say("the heartbeat fails").status_code == 200
    assert failed.is_set()
    assert say("the next one").status_code == 200
    [row] = rows(
        "SELECT heartbeat_at > started_at AS beaten FROM turns WHERE user_id = :u ORDER BY started_at DESC LIMIT 1",
        u=user.id,
    )
    assert row.beaten


@pytest.fixture
def beats(rows: Rows) -> Callable[[str], Any]:
    """A function that tells the time of the last heartbeat of the turn that began with a message, once it runs."""

    def last(message: str) -> Any:
        found = rows(
            """SELECT turns.heartbeat_at FROM turns JOIN messages ON messages.turn_id = turns.id
                WHERE messages.content = :m AND turns.status = 'running'""",
            m=message,
        )
        return found[0].heartbeat_at if found else None

    return last


def test_who_holds_one_turn_does_not_stop_the_hearts_of_the_others(
    chat: Chat, upstream: Upstream, other_user: Account, engine: Engine, beats: Callable[[str], Any]
) -> None:
    release = threading.Event()
    upstream.script = until_set(release)
    with ThreadPoolExecutor(2) as threads, engine.connect() as holder:
        pending = [threads.submit(chat, "held"), threads.submit(chat, "free", account=other_user)]
        until(lambda: beats("held") and beats("free"), "two turns")
        query = (
            "SELECT heartbeat_at FROM turns JOIN messages ON turn_id = id WHERE content = 'held' FOR UPDATE OF turns"
        )
        held = holder.execute(text(query)).scalar_one()
        before = beats("free")
        until(lambda: beats("free") > before, "a heartbeat of the other turn")
        assert beats("held") == held
        holder.rollback()
        until(lambda: beats("held") > held, "a heartbeat of the turn that was held")
        release.set()
        assert {each.result().status_code for each in pending} == {200}


def test_turns_live_on_while_others_use_all_connections(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, beats: Callable[[str], Any]
) -> None:
    chat_app, release = make_chat_app(database={"pool_size": 1, "max_overflow": 0}), threading.Event()
    upstream.script = until_set(release)

    def say() -> TestResponse:
        return chat_app.test_client().post("/api/chat", json={"message": "alone"}, headers=user.headers)

    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(say)
        before = until(lambda: beats("alone"), "a turn")
        with chat_app.app_context(), db.engine.connect():
            until(lambda: beats("alone") > before, "a heartbeat")
        release.set()
        assert pending.result().status_code == 200
    with chat_app.app_context():
        own: Any = db.engines["heartbeats"].pool
    until(lambda: own.checkedin() + own.checkedout() == 0, "the end of its connection")


def test_a_thread_that_cannot_start_leaves_no_turn_running(
    make_chat_app: Callable[..., Flask], user: Account, rows: Rows, monkeypatch: pytest.MonkeyPatch
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
    assert ended(rows, user) == [("failed", "overloaded", None)]


def ended(rows: Rows, account: Account) -> list[tuple[str, str | None, Any]]:
    """(status, error's code, lease of its conversation) of each turn of the account."""
    found = rows(
        """SELECT t.status, t.error->>'code', c.running_attempt FROM turns t JOIN conversations c
               ON c.user_id = t.user_id AND c.id = t.conversation_id WHERE t.user_id = :u ORDER BY t.started_at""",
        u=account.id,
    )
    return [tuple(row) for row in found]


# How PostgreSQL may refuse an answer, whenever it is asked: by a constraint, or by what somebody else's trigger raises.
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


@pytest.mark.timeout(30)  # less than an answer waits for a database that is away
@pytest.mark.parametrize(("refuse", "allow"), REFUSALS, ids=["constraint", "trigger"])
def test_an_answer_that_can_never_be_stored_ends_its_turn_as_failed(
    chat: Chat, user: Account, engine: Engine, rows: Rows, refuse: str, allow: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(refuse))
    try:
        answer = chat("hello")
        told = events_of(chat("hello", stream=True))
    finally:
        with engine.begin() as connection:
            connection.execute(text(allow))
    assert answer.status_code == 503
    assert "could not be stored" in answer.get_json()["detail"]
    assert told[-1][1] == "turn.failed"
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    assert ended(rows, user) == [("failed", "database_unavailable", None)] * 2
    assert chat("again", conversation_id=answer.get_json()["conversation_id"]).status_code == 200


@pytest.mark.timeout(30)
def test_a_history_that_cannot_be_read_ends_the_turn_that_has_begun(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, engine: Engine, rows: Rows
) -> None:
    """The begin waited for the conversation's row, so the history must be read again; and that fails."""
    chat_app = make_chat_app()
    client = chat_app.test_client()

    def say(message: str, **body: Any) -> TestResponse:
        return client.post("/api/chat", json={"message": message, **body}, headers=user.headers)

    conversation = say("first").get_json()["conversation"]["id"]
    asked = len(upstream.requests)
    with chat_app.app_context():
        own = db.engine

    @event.listens_for(own, "before_cursor_execute", retval=True)
    def cancelled(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        if "turns.reread_history" in statement:  # PostgreSQL's own refusal, at the one moment that matters
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
                    VALUES (:u, :c, 3, 'assistant', 'meanwhile')"""),
            {"u": user.id, "c": conversation},
        )
        pending = threads.submit(say, "second", conversation_id=conversation)
        # In a transaction it would see the same each time.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            until(lambda: looking.execute(waiting).first(), "the begin that waits")
        holder.commit()
        answer = pending.result()
    assert answer.status_code == 503, answer.get_data()
    assert answer.get_json()["code"] == "database_unavailable"
    assert len(upstream.requests) == asked
    assert ended(rows, user) == [("completed", None, None), ("failed", "database_unavailable", None)]


def test_a_lease_that_no_turn_belongs_to_does_not_block_for_ever(
    chat: Chat, user: Account, engine: Engine, rows: Rows
) -> None:
    conversation = chat("first").get_json()["conversation"]["id"]

    def lose_turns(changed: str) -> None:
        with engine.begin() as connection:
            connection.execute(
                text(f"""WITH gone AS (DELETE FROM turns WHERE user_id = :u)
                         UPDATE conversations SET running_attempt = gen_random_uuid(), created_at = {changed},
                                updated_at = {changed} WHERE user_id = :u"""),
                {"u": user.id},
            )

    lose_turns("now()")
    assert chat("second", conversation_id=conversation).get_json()["code"] == "conversation_busy"
    lose_turns("now() - interval '1 hour'")
    assert chat("third", conversation_id=conversation).status_code == 200
    assert ended(rows, user) == [("completed", None, None)]


def test_who_is_deleted_while_a_turn_begins_is_told_to_log_in(chat: Chat, user: Account, engine: Engine) -> None:
    waiting = text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%turns.begin_new %'")
    with ThreadPoolExecutor(1) as threads, engine.begin() as eraser:
        eraser.execute(text("DELETE FROM users WHERE id = :u"), {"u": user.id})
        pending = threads.submit(chat, "hello")
        # In a transaction it would see the same each time.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            until(lambda: looking.execute(waiting).first(), "the begin that waits")
        eraser.commit()
        answer = pending.result()
    assert (answer.status_code, answer.get_json()["code"]) == (401, "not_authenticated")
