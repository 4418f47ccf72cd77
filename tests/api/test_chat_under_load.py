"""Statements, connections and concurrency of turns, with slow providers; counted by PostgreSQL where possible."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, event, text
from werkzeug.test import TestResponse

from app.config import Settings
from app.extensions import db
from tests.api.conftest import events_of
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


@pytest.fixture
def observer(settings: Settings) -> Iterator[Engine]:
    """Yield an engine that does not belong to the application."""
    assert settings.database.url
    own_engine = create_engine(
        settings.database.url, isolation_level="AUTOCOMMIT", connect_args={"application_name": "observer"}
    )
    yield own_engine
    own_engine.dispose()


def test_turn_sends_two_statements(chat: Chat, chat_app: Flask, upstream: Upstream, observer: Engine) -> None:
    """Counted by pg_stat_statements, which includes BEGIN and COMMIT; SQLAlchemy's events do not."""
    upstream.script = scripts.words(3)
    conversation = chat("warm up").get_json()["conversation"]["id"]
    with observer.connect() as connection:
        preloaded = connection.execute(text("SHOW shared_preload_libraries")).scalar_one()
        if "pg_stat_statements" not in preloaded:
            pytest.skip("this PostgreSQL does not preload pg_stat_statements")
        connection.execute(text("CREATE EXTENSION pg_stat_statements"))

        def statements() -> dict[str, int]:
            result = connection.execute(
                text("""
                SELECT query, sum(calls)::int FROM pg_stat_statements
                 WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY query""")
            )
            return {row[0]: row[1] for row in result}

        try:
            for existing in (None, conversation):
                before = statements()
                chat("hello", conversation_id=existing) if existing else chat("hello")
                after = statements()
                sent = {
                    query.split("*/")[0].split("/* ")[-1].split()[0]: calls - before.get(query, 0)
                    for query, calls in after.items()
                    if calls != before.get(query, 0) and "pg_stat_statements" not in query
                }
                for cached in ("runtime_settings.all", "mcp_servers.revisions"):  # read every few seconds
                    sent.pop(cached, None)
                assert sent == {"turns.begin" if existing else "turns.begin_new": 1, "turns.finish": 1}
        finally:  # other tests compare the schema with the models
            connection.execute(text("DROP EXTENSION pg_stat_statements"))


def test_no_connection_is_held_while_provider_streams(
    chat: Chat, chat_app: Flask, upstream: Upstream, observer: Engine
) -> None:
    upstream.script = scripts.words(20, pause=0.1)
    with chat_app.app_context():
        pool: Any = db.engine.pool
    with ThreadPoolExecutor(10) as threads:
        pending = [threads.submit(chat, f"slow {number}") for number in range(10)]
        upstream.wait_for(lambda: upstream.open_streams >= 10)
        pause, held, busy = threading.Event(), list[int](), list[int]()
        with observer.connect() as connection:
            for _ in range(30):  # one second of the two that the answers take
                held.append(pool.checkedout())
                busy.append(
                    connection.execute(
                        text("""
                        SELECT count(*) FROM pg_stat_activity
                         WHERE datname = current_database() AND application_name = 'parley'
                           AND state LIKE 'idle in transaction%'""")
                    ).scalar_one()
                )
                pause.wait(0.03)
        # The heartbeats use one connection for a moment; ten answers would hold ten.
        assert sorted(held)[len(held) // 2] == 0, held
        assert max(held) <= 1, held
        assert busy == [0] * len(busy)
        assert {future.result().status_code for future in pending} == {200}


def test_two_hundred_slow_chats_share_ten_connections(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser
) -> None:
    upstream.script = scripts.words(5, pause=0.3)
    chat_app = make_chat_app(database={"pool_size": 10, "max_overflow": 0}, server={"streams_per_user": 200})
    peak = 0
    with chat_app.app_context():
        pool: Any = db.engine.pool

        @event.listens_for(db.engine, "checkout")
        def count(*_: Any) -> None:
            nonlocal peak
            peak = max(peak, pool.checkedout())

    def one(number: int) -> int:
        body = {"message": f"chat {number}"}
        return chat_app.test_client().post("/api/chat", json=body, headers=user.headers).status_code

    with ThreadPoolExecutor(200) as threads:
        answers = list(threads.map(one, range(200)))
    assert answers == [200] * 200
    assert 0 < peak <= 10
    assert upstream.peak_streams > 50


def test_second_message_during_turn_returns_409(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.words(1)
    conversation = chat("first").get_json()["conversation"]["id"]
    upstream.script = scripts.words(10, pause=0.1)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(chat, "slow", conversation_id=conversation)
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        refused = chat("too soon", conversation_id=conversation)
        assert refused.status_code == 409
        assert refused.get_json()["code"] == "conversation_busy"
        assert int(refused.headers["Retry-After"]) >= 1
        assert slow.result().status_code == 200


def test_concurrent_chats_in_one_conversation_are_serialized_or_rejected(
    chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = scripts.words(1)
    conversation = chat("first").get_json()["conversation"]["id"]
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda n: chat(f"message {n}", conversation_id=conversation), range(50)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 409}
    kept = rows("SELECT position, role FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [row.position for row in kept] == list(range(1, 2 * (statuses.count(200) + 1) + 1))
    assert [row.role for row in kept] == ["user", "assistant"] * (statuses.count(200) + 1)


def test_answer_is_stored_after_reader_disconnects(
    chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = scripts.words(10, pause=0.05)
    response = chat("hello", stream=True)
    reader = iter(response.response)
    next(piece for piece in reader if b"message.delta" in piece)
    response.close()
    wait_until(lambda: rows("SELECT 1 FROM turns WHERE user_id = :u AND status = 'completed'", u=user.id) != [])
    [message] = rows("SELECT content FROM messages WHERE user_id = :u AND role = 'assistant'", u=user.id)
    assert message.content == "".join(f"word{number} " for number in range(10))


def test_slow_provider_does_not_make_turn_stale(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser
) -> None:
    upstream.script = scripts.words(1)
    client = make_chat_app(chat={"stale_seconds": 3}).test_client

    def send_message(message: str, **body: Any) -> TestResponse:
        return client().post("/api/chat", json={"message": message, **body}, headers=user.headers)

    conversation = send_message("first").get_json()["conversation"]["id"]
    upstream.script = scripts.words(1, first=6)
    with ThreadPoolExecutor(1) as threads:
        silent = threads.submit(send_message, "think long", conversation_id=conversation)
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        time.sleep(4.5)  # longer than `stale_seconds`
        assert send_message("hello?", conversation_id=conversation).status_code == 409
        assert silent.result().status_code == 200


def test_stale_turn_is_closed_by_next_chat(
    chat: Chat, upstream: Upstream, user: LoggedInUser, engine: Engine, rows: Rows
) -> None:
    upstream.script = scripts.words(1)
    body = chat("first").get_json()
    with engine.begin() as connection:  # the state after the process was killed right after begin
        connection.execute(
            text("""
            WITH t AS (UPDATE turns SET status = 'running', finished_at = NULL, heartbeat_at = now() - interval '1 min'
                        WHERE user_id = :u RETURNING user_id, conversation_id, attempt)
            UPDATE conversations SET running_attempt = t.attempt FROM t
             WHERE conversations.user_id = t.user_id AND id = t.conversation_id"""),
            {"u": user.id},
        )
    after = chat("second", conversation_id=body["conversation"]["id"])
    assert after.status_code == 200
    [turn] = rows("SELECT status, error FROM turns WHERE user_id = :u AND id = :t", u=user.id, t=body["turn"]["id"])
    assert turn.status == "interrupted"
    assert turn.error["code"] == "interrupted"


def test_fenced_attempt_stops_and_reports_interrupted(
    chat: Chat, upstream: Upstream, user: LoggedInUser, engine: Engine, rows: Rows
) -> None:
    upstream.script = scripts.words(100, pause=0.1)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "long", stream=True)
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        before = upstream.disconnects
        with engine.begin() as connection:
            connection.execute(
                text("""
                WITH c AS (UPDATE conversations SET running_attempt = NULL WHERE user_id = :u RETURNING user_id)
                UPDATE turns SET status = 'interrupted', finished_at = now() FROM c WHERE turns.user_id = c.user_id"""),
                {"u": user.id},
            )
        events = events_of(pending.result())
        upstream.wait_for(lambda: upstream.disconnects > before)
    assert events[-1][1] == "turn.interrupted"
    assert rows("SELECT 1 FROM messages WHERE user_id = :u AND role = 'assistant'", u=user.id) == []


def test_worker_at_turn_limit_returns_503_and_stays_healthy(
    make_chat_app: Callable[..., Flask], upstream: Upstream, make_user: Callable[..., LoggedInUser]
) -> None:
    upstream.script = scripts.words(10, pause=0.1)
    client = make_chat_app(chat={"max_running": 2}).test_client
    accounts = [make_user() for _ in range(3)]

    def send_message(account: LoggedInUser) -> TestResponse:
        return client().post("/api/chat", json={"message": "hello"}, headers=account.headers)

    with ThreadPoolExecutor(2) as threads:
        pending = [threads.submit(send_message, account) for account in accounts[:2]]
        upstream.wait_for(lambda: upstream.open_streams >= 2)
        refused = send_message(accounts[2])
        assert refused.status_code == 503
        assert refused.get_json()["code"] == "overloaded"
        assert int(refused.headers["Retry-After"]) >= 1
        assert client().get("/health").status_code == 200
        assert [future.result().status_code for future in pending] == [200, 200]
    assert send_message(accounts[2]).status_code == 200
