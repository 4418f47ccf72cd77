"""The database goes away, hangs, fills up or becomes read-only under a real web server; and comes back."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import urllib3
from flask import Flask
from sqlalchemy import Engine, make_url, text

from app.config import Settings
from tests.database import fresh_database
from tests.factories import PASSWORD, make_account, make_conversation
from tests.faults.proxy import Proxy
from tests.faults.rig import Rig, application, until

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.xdist_group("database_faults")]

CONNECT_SECONDS = 1
LOCK_MS = 4_000
SERVED = "FROM pg_stat_activity WHERE application_name = 'parley' AND datname = current_database()"


class World:
    """A web server with one worker and one connection, and a wire to its database that can be cut."""

    def __init__(self, rig: Rig, proxy: Proxy, flask_app: Flask, engine: Engine) -> None:
        self.rig, self.proxy, self.flask_app, self.engine = rig, proxy, flask_app, engine
        self.user = make_account(flask_app, engine)
        self.at_start = [self.ask(*route) for route in ROUTES]

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, seconds: float = 30
    ) -> urllib3.BaseHTTPResponse:
        headers = {**self.user.headers, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        return self.rig.http.request(
            method,
            self.rig.url + path,
            body=orjson.dumps(body) if body is not None else None,
            headers=headers,
            timeout=seconds,
        )

    def chat(self, message: str, key: str | None = None, **body: Any) -> urllib3.BaseHTTPResponse:
        return self.ask("POST", "/api/chat", {"message": message, **body}, key=key)

    def sql(self, query: str, **parameters: Any) -> Sequence[Any]:
        """The rows of a query, on a connection of the test's own."""
        with self.engine.connect() as connection:
            found = connection.execute(text(query), parameters)
            return found.all() if found.returns_rows else ()

    def stored(self, message: str) -> int:
        """How often that message is in the database."""
        return len(self.sql("SELECT 1 FROM messages WHERE content = :message", message=message))

    def hang_up(self) -> None:
        """End the web server's connections from PostgreSQL's side."""
        self.sql(f"SELECT pg_terminate_backend(pid) {SERVED}")


@pytest.fixture(scope="module")
def world(
    settings: Settings,
    postgres: str,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
    testrun_uid: str,
) -> Iterator[World]:
    name = f"parley_faults_{testrun_uid[:8]}_{worker_id}"
    with fresh_database(postgres, name) as database_url, application(settings, database_url) as (flask_app, engine):
        server = make_url(database_url)
        with Proxy((server.host or "127.0.0.1", server.port or 5432)) as proxy:
            rig = Rig(
                tmp_path_factory.mktemp("database"),
                server.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False),
                AI_PROVIDER="demo",
                WEB_WORKERS="1",
                DB_POOL_SIZE="1",
                DB_MAX_OVERFLOW="0",
                DB_POOL_TIMEOUT="1.5",
                DB_CONNECT_TIMEOUT=str(CONNECT_SECONDS),
                DB_LOCK_TIMEOUT_MS=str(LOCK_MS),
                CHAT_STALE_SECONDS="3",
            )
            try:
                proxy.cut()
                rig.start_web(expected=503)  # the database is down at the start
                yield World(rig, proxy, flask_app, engine)
            finally:
                rig.stop()


@pytest.fixture(autouse=True)
def _mended(world: World) -> None:
    world.proxy.mend()
    until(lambda: world.rig.health() == 200, "a healthy server on a mended database")


def assert_not_now(response: urllib3.BaseHTTPResponse) -> None:
    assert response.status == 503, response.data
    assert response.headers["Content-Type"] == "application/problem+json"
    assert int(response.headers["Retry-After"]) >= 1
    assert orjson.loads(response.data)["code"] == "database_unavailable"


WRITES: list[tuple[str, str, Any]] = [
    ("POST", "/api/conversations", {}),
    ("POST", "/api/chat", {"message": "hello"}),
    ("POST", "/api/auth/register", {"email": "new@example.org", "password": PASSWORD, "name": "New"}),
]
ROUTES: list[tuple[str, str, Any]] = [
    *WRITES,
    ("GET", "/api/auth/me", None),
    ("GET", "/api/conversations", None),
    ("POST", "/api/auth/login", {"email": "ada@example.org", "password": PASSWORD}),
]


def test_a_database_that_is_down_from_the_start_is_503_and_never_401(world: World) -> None:
    for answer in world.at_start:
        assert_not_now(answer)
    assert world.chat("back again").status == 200


def test_a_database_that_goes_away_is_503_and_recovers(world: World) -> None:
    assert world.chat("before").status == 200
    world.proxy.cut()
    for route in ROUTES:
        assert_not_now(world.ask(*route))
    assert world.rig.health() == 503
    world.proxy.mend()
    assert world.chat("after").status == 200  # at once: no request pays for the outage once it is over


def test_a_restarted_database_costs_one_request(world: World) -> None:
    assert world.chat("before").status == 200
    world.hang_up()
    statuses = [world.ask("GET", "/api/conversations").status for _ in range(4)]
    assert statuses.count(200) >= 3, statuses
    assert set(statuses) <= {200, 503}


def test_a_black_hole_fails_within_the_connect_timeout(world: World) -> None:
    world.proxy.silence()
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda route: world.ask(*route, seconds=10 * CONNECT_SECONDS), ROUTES))
    for answer in answers:
        assert_not_now(answer)
    assert world.rig.health() == 503


def test_no_free_connection_is_503_with_a_time_to_wait(world: World) -> None:
    conversation = make_conversation(world.engine, world.user)
    with world.engine.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        holder.execute(text("SELECT FROM conversations WHERE id = :id FOR UPDATE"), {"id": conversation})
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(world.chat, "waits for a lock", conversation_id=str(conversation))
            until(lambda: world.sql(f"SELECT 1 {SERVED} AND wait_event_type = 'Lock'"), "a statement that waits")
            refused = world.ask("GET", "/api/conversations")
            assert_not_now(refused)
            assert world.ask("GET", "/health/live").status == 200  # which needs none
            assert "connections" in orjson.loads(refused.data)["detail"]
            assert_not_now(waiting.result())  # the lock timeout
    assert world.stored("waits for a lock") == 0
    again = world.chat("and again", conversation_id=str(conversation))
    assert again.status == 200, again.data


def test_a_read_only_database_saves_nothing_and_says_so(world: World, engine: Engine) -> None:
    [[name]] = world.sql("SELECT current_database()")
    elsewhere = engine.execution_options(isolation_level="AUTOCOMMIT")  # from where it can be undone
    with elsewhere.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    world.hang_up()
    try:
        until(lambda: world.ask("GET", "/api/conversations").status == 200, "a database that can be read")
        for method, path, body in (*WRITES, ("POST", "/api/chat", {"message": "read only"})):
            assert_not_now(world.ask(method, path, body))
        assert world.stored("read only") == 0
    finally:
        with elsewhere.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        world.hang_up()
    until(lambda: world.chat("writable").status == 200, "a database that can be written")


def test_a_transaction_that_cannot_be_serialized_may_be_tried_again(world: World, engine: Engine) -> None:
    """An operator may choose a stricter isolation; then waiting for a row can end in a refusal."""
    [[name]] = world.sql("SELECT current_database()")
    elsewhere = engine.execution_options(isolation_level="AUTOCOMMIT")
    with elsewhere.connect() as connection:
        connection.execute(text(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'"))
    world.hang_up()
    try:
        conversation = make_conversation(world.engine, world.user)
        until(lambda: world.chat("warm").status == 200, "a connection of the stricter kind")
        holder = world.engine.connect().execution_options(isolation_level="READ COMMITTED")
        with holder, ThreadPoolExecutor(1) as threads:
            holder.execute(text("UPDATE conversations SET title = 'other' WHERE id = :id"), {"id": conversation})
            waiting = threads.submit(world.chat, "unserializable", conversation_id=str(conversation))
            until(lambda: world.sql(f"SELECT 1 {SERVED} AND wait_event_type = 'Lock'"), "a statement that waits")
            holder.commit()
            assert_not_now(waiting.result())
        assert world.stored("unserializable") == 0
        assert world.chat("unserializable", conversation_id=str(conversation)).status == 200
    finally:
        with elsewhere.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_isolation'))
        world.hang_up()


def test_each_connection_carries_its_timeouts(settings: Settings, engine: Engine) -> None:
    wanted = settings.database
    with engine.connect() as connection:
        for name, milliseconds in {
            "statement_timeout": wanted.statement_timeout_ms,
            "lock_timeout": wanted.lock_timeout_ms,
            "idle_in_transaction_session_timeout": wanted.idle_in_transaction_timeout_ms,
        }.items():
            query = text("SELECT setting::int FROM pg_settings WHERE name = :name")
            assert connection.execute(query, {"name": name}).scalar_one() == milliseconds


def test_a_reply_that_is_lost_after_the_commit_is_not_called_unsaved(world: World) -> None:
    assert world.chat("warm").status == 200
    world.proxy.cut_after(b"turns.begin_new")
    answer = world.chat("lost reply", key="lost-reply")
    assert_not_now(answer)
    assert world.stored("lost reply") == 1
    assert b"nothing was saved" not in answer.data
    answers = []

    def again() -> bool:
        answers.append(world.chat("lost reply", key="lost-reply"))
        return answers[-1].status == 200

    until(again, "the answer to the same request")
    # Nobody answers a turn that nobody knows of: the next callers wait or are told so, until one runs it again.
    codes = {orjson.loads(answer.data)["code"] for answer in answers[:-1]}
    assert codes <= {"conversation_busy", "interrupted"}
    assert world.stored("lost reply") == 1


def test_a_lost_reply_to_a_commit_is_not_called_unsaved(world: World) -> None:
    body = {"email": "lost@example.org", "password": PASSWORD, "name": "Lost"}
    world.proxy.cut_after(b"COMMIT")
    answer = world.ask("POST", "/api/auth/register", body)
    assert_not_now(answer)
    assert b"nothing was saved" not in answer.data
    assert world.ask("POST", "/api/auth/register", body).status == 409


def test_a_lost_reply_to_finish_stores_one_answer(world: World) -> None:
    assert world.chat("warm").status == 200
    world.proxy.cut_after(b"turns.finish")
    answer = world.chat("finish twice")
    assert answer.status == 200
    conversation = orjson.loads(answer.data)["conversation"]["id"]
    rows = world.sql("SELECT position, role FROM messages WHERE conversation_id = :id ORDER BY 1", id=conversation)
    assert [tuple(row) for row in rows] == [(1, "user"), (2, "assistant")]
