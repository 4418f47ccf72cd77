"""A real web server whose database is down, hangs, is read-only or loses replies, and recovers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import urllib3
from flask import Flask
from sqlalchemy import Engine, make_url, text

from app.config import Settings
from tests.database import migrated_database
from tests.factories import PASSWORD, insert_user, make_conversation
from tests.faults.live_server import LiveServer, application
from tests.faults.proxy import Proxy
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("database_faults")]

CONNECT_SECONDS = 1
LOCK_MS = 4_000
SERVED = "FROM pg_stat_activity WHERE application_name = 'parley' AND datname = current_database()"


class ProxiedServer:
    """A web server with one worker and one database connection, which passes through a proxy."""

    def __init__(self, web: LiveServer, proxy: Proxy, flask_app: Flask, engine: Engine) -> None:
        self.web, self.proxy, self.flask_app, self.engine = web, proxy, flask_app, engine
        self.user = insert_user(flask_app, engine)
        self.responses_at_start = [self.request(*route) for route in ROUTES]

    def request(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, seconds: float = 30
    ) -> urllib3.BaseHTTPResponse:
        """Send a request as the user, with JSON and an idempotency key if given."""
        headers = {**self.user.headers, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        return self.web.http.request(
            method,
            self.web.url + path,
            body=orjson.dumps(body) if body is not None else None,
            headers=headers,
            timeout=seconds,
        )

    def chat(self, message: str, key: str | None = None, **body: Any) -> urllib3.BaseHTTPResponse:
        """Send a chat request."""
        return self.request("POST", "/api/chat", {"message": message, **body}, key=key)

    def sql(self, query: str, **parameters: Any) -> Sequence[Any]:
        """Run a query on a connection that does not use the proxy, and return its rows."""
        with self.engine.connect() as connection:
            result = connection.execute(text(query), parameters)
            return result.all() if result.returns_rows else ()

    def count_messages(self, message: str) -> int:
        """Count the stored messages with this content."""
        return len(self.sql("SELECT 1 FROM messages WHERE content = :message", message=message))

    def terminate_connections(self) -> None:
        """Terminate the web server's connections from PostgreSQL's side."""
        self.sql(f"SELECT pg_terminate_backend(pid) {SERVED}")


@pytest.fixture(scope="module")
def server(
    settings: Settings,
    postgres: str,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
    testrun_uid: str,
) -> Iterator[ProxiedServer]:
    name = f"parley_faults_{testrun_uid[:8]}_{worker_id}"
    with migrated_database(postgres, name) as database_url, application(settings, database_url) as (flask_app, engine):
        url = make_url(database_url)
        with Proxy((url.host or "127.0.0.1", url.port or 5432)) as proxy:
            web = LiveServer(
                tmp_path_factory.mktemp("database"),
                url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False),
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
                web.start_web(expected=503)  # the database is down at the start
                yield ProxiedServer(web, proxy, flask_app, engine)
            finally:
                web.close()


@pytest.fixture(autouse=True)
def _healthy(server: ProxiedServer) -> None:
    server.proxy.repair()
    wait_until(lambda: server.web.health() == 200, "the server is not healthy again")


def assert_unavailable(response: urllib3.BaseHTTPResponse, code: str = "database_unavailable") -> None:
    assert response.status == 503, response.data
    assert response.headers["Content-Type"] == "application/problem+json"
    assert int(response.headers["Retry-After"]) >= 1
    assert orjson.loads(response.data)["code"] == code


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


def test_database_down_at_start_returns_503_and_never_401(server: ProxiedServer) -> None:
    for answer in server.responses_at_start:
        assert_unavailable(answer)
    assert server.chat("recovered").status == 200


def test_unreachable_database_returns_503_and_recovers(server: ProxiedServer) -> None:
    assert server.chat("before").status == 200
    server.proxy.cut()
    for route in ROUTES:
        assert_unavailable(server.request(*route))
    assert server.web.health() == 503
    server.proxy.repair()
    assert server.chat("after").status == 200  # the first request after the outage succeeds


def test_terminated_connections_fail_at_most_one_request(server: ProxiedServer) -> None:
    assert server.chat("before").status == 200
    server.terminate_connections()
    statuses = [server.request("GET", "/api/conversations").status for _ in range(4)]
    assert statuses.count(200) >= 3, statuses
    assert set(statuses) <= {200, 503}


def test_black_hole_returns_503_within_the_connect_timeout(server: ProxiedServer) -> None:
    server.proxy.black_hole()
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda route: server.request(*route, seconds=10 * CONNECT_SECONDS), ROUTES))
    for answer in answers:
        assert_unavailable(answer)
    assert server.web.health() == 503


def test_exhausted_pool_returns_503_with_retry_after(server: ProxiedServer) -> None:
    conversation = make_conversation(server.engine, server.user)
    with server.engine.connect().execution_options(isolation_level="READ COMMITTED") as holder:
        holder.execute(text("SELECT FROM conversations WHERE id = :id FOR UPDATE"), {"id": conversation})
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(server.chat, "waits for a lock", conversation_id=str(conversation))
            wait_until(lambda: server.sql(f"SELECT 1 {SERVED} AND wait_event_type = 'Lock'"), "no statement is waiting")
            response = server.request("GET", "/api/conversations")
            assert_unavailable(response)
            assert server.request("GET", "/health/live").status == 200  # it needs no connection
            assert "connections" in orjson.loads(response.data)["detail"]
            assert_unavailable(waiting.result(), code="locked")  # the lock timeout
    assert server.count_messages("waits for a lock") == 0
    second = server.chat("after the lock", conversation_id=str(conversation))
    assert second.status == 200, second.data


def test_read_only_database_returns_503_for_writes_and_stores_nothing(server: ProxiedServer, engine: Engine) -> None:
    [[name]] = server.sql("SELECT current_database()")
    admin = engine.execution_options(isolation_level="AUTOCOMMIT")  # another database, so that it can be undone
    with admin.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    server.terminate_connections()
    try:
        wait_until(lambda: server.request("GET", "/api/conversations").status == 200, "the database cannot be read")
        for method, path, body in (*WRITES, ("POST", "/api/chat", {"message": "read only"})):
            assert_unavailable(server.request(method, path, body))
        assert server.count_messages("read only") == 0
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
        server.terminate_connections()
    wait_until(lambda: server.chat("writable").status == 200, "the database cannot be written")


def test_stricter_isolation_level_of_database_has_no_effect(server: ProxiedServer, engine: Engine) -> None:
    """Under a stricter isolation level, a statement that has waited for a row would fail."""
    [[name]] = server.sql("SELECT current_database()")
    admin = engine.execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'"))
    server.terminate_connections()
    try:
        conversation = make_conversation(server.engine, server.user)
        wait_until(lambda: server.chat("warm").status == 200, "no connection after the change")
        holder = server.engine.connect().execution_options(isolation_level="READ COMMITTED")
        with holder, ThreadPoolExecutor(1) as threads:
            holder.execute(text("UPDATE conversations SET title = 'other' WHERE id = :id"), {"id": conversation})
            waiting = threads.submit(server.chat, "has waited", conversation_id=str(conversation))
            wait_until(lambda: server.sql(f"SELECT 1 {SERVED} AND wait_event_type = 'Lock'"), "no statement is waiting")
            holder.commit()
            assert waiting.result().status == 200
        assert server.count_messages("has waited") == 1
    finally:
        with admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_isolation'))
        server.terminate_connections()


def test_connections_have_the_configured_timeouts(settings: Settings, engine: Engine) -> None:
    configured = settings.database
    with engine.connect() as connection:
        for name, milliseconds in {
            "statement_timeout": configured.statement_timeout_ms,
            "lock_timeout": configured.lock_timeout_ms,
            "idle_in_transaction_session_timeout": configured.idle_in_transaction_timeout_ms,
        }.items():
            query = text("SELECT setting::int FROM pg_settings WHERE name = :name")
            assert connection.execute(query, {"name": name}).scalar_one() == milliseconds


def test_lost_reply_to_begin_is_not_reported_as_unsaved(server: ProxiedServer) -> None:
    assert server.chat("warm").status == 200
    server.proxy.drop_reply_to(b"turns.begin_new")
    answer = server.chat("lost reply", key="lost-reply")
    assert_unavailable(answer)
    assert server.count_messages("lost reply") == 1
    assert b"nothing was saved" not in answer.data
    retries = []

    def retry() -> bool:
        retries.append(server.chat("lost reply", key="lost-reply"))
        return retries[-1].status == 200

    wait_until(retry, "no retry was answered")
    # No process runs the turn. Retries get 409 until it is stale; then one of them runs a new attempt.
    codes = {orjson.loads(answer.data)["code"] for answer in retries[:-1]}
    assert codes <= {"conversation_busy", "interrupted"}
    assert server.count_messages("lost reply") == 1


def test_lost_reply_to_commit_is_not_reported_as_unsaved(server: ProxiedServer) -> None:
    body = {"email": "lost@example.org", "password": PASSWORD, "name": "Lost"}
    server.proxy.drop_reply_to(b"COMMIT")
    answer = server.request("POST", "/api/auth/register", body)
    assert_unavailable(answer)
    assert b"nothing was saved" not in answer.data
    assert server.request("POST", "/api/auth/register", body).status == 409


def test_lost_reply_to_finish_stores_one_answer(server: ProxiedServer) -> None:
    assert server.chat("warm").status == 200
    server.proxy.drop_reply_to(b"turns.finish")
    answer = server.chat("finish twice")
    assert answer.status == 200
    conversation = orjson.loads(answer.data)["conversation"]["id"]
    rows = server.sql("SELECT position, role FROM messages WHERE conversation_id = :id ORDER BY 1", id=conversation)
    assert [tuple(row) for row in rows] == [(1, "user"), (2, "assistant")]
