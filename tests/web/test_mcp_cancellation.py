"""Clients of `/mcp` that cancel a call: its statement ends, nothing is stored, and its connection is free again."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from ops import embedded
from tests.api.keys import Key, make_key
from tests.api.mcp.messages import HANDSHAKE, STATELESS, envelope
from tests.database import run_folder
from tests.factories import LoggedInUser
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

REQUEST_ID = 7
# A statement waits for a lock longer than the tests do, and one connection serves all requests of a worker.
SETTINGS = {
    "DB_LOCK_TIMEOUT_MS": "600000",
    "DB_STATEMENT_TIMEOUT_MS": "600000",
    "DB_POOL_SIZE": "1",
    "DB_MAX_OVERFLOW": "0",
    "TOOL_CALL_TIMEOUT": "600",
}


@pytest.fixture
def key(flask_app: Flask, user: LoggedInUser) -> Key:
    return make_key(flask_app, user, ["read", "write"])


@pytest.fixture
def task(flask_app: Flask, key: Key, user: LoggedInUser) -> str:
    """Return the id of an open task of the user."""
    created = flask_app.test_client().post("/api/tasks", json={"title": "Wait"}, headers=user.headers)
    return str(created.get_json()["id"])


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", **SETTINGS) as server:
        yield server


@contextmanager
def locked(engine: Engine, task: str) -> Iterator[None]:
    """Lock the row of a task in another session."""
    with engine.connect() as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # a busy machine takes a while
        connection.execute(text("SELECT 1 FROM tasks WHERE id = :id FOR UPDATE"), {"id": UUID(task)})
        yield
        connection.rollback()


def waiting(engine: Engine, task: str) -> int:
    """Return how many backends wait for the lock of the task's row."""
    query = """
SELECT count(*) FROM pg_stat_activity
 WHERE wait_event_type = 'Lock' AND query LIKE '%tasks.%' AND datname = current_database()"""
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


def is_open(engine: Engine, task: str) -> bool:
    with engine.connect() as connection:
        completed = connection.execute(text("SELECT completed FROM tasks WHERE id = :id"), {"id": UUID(task)})
        return not completed.scalar_one()


def request(key: Key, version: str, method: str, request_id: int | None, **params: Any) -> bytes:
    """Return the bytes of a request with a message."""
    headers = [
        "POST /mcp HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        "Content-Type: application/json",
        "User-Agent: tests",
    ]
    headers += [f"Authorization: Bearer {key.secret}", f"MCP-Protocol-Version: {version}"]
    if version == STATELESS:
        headers += [f"Mcp-Method: {method}", f"Mcp-Name: {params['name']}"]
        params["_meta"] = envelope()
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    body = orjson.dumps(message if request_id is None else message | {"id": request_id})
    return "\r\n".join([*headers, f"Content-Length: {len(body)}", "", ""]).encode() + body


def call(key: Key, version: str, tool: str, **arguments: str) -> bytes:
    return request(key, version, "tools/call", REQUEST_ID, name=tool, arguments=arguments)


def connect(server: WebServer, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(sent)
    return connection


def answer(server: WebServer, sent: bytes) -> bytes:
    with connect(server, sent) as connection:
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize(("tool", "more"), [("complete_task", {}), ("update_task", {"title": "Changed"})])
def test_client_that_closes_its_connection_cancels_the_call(
    server: WebServer, key: Key, task: str, engine: Engine, tool: str, more: dict[str, str]
) -> None:
    with locked(engine, task):
        connection = connect(server, call(key, STATELESS, tool, task_id=task, **more))
        wait_until(lambda: waiting(engine, task) == 1, "the call does not wait for the row")
        connection.close()
        wait_until(lambda: waiting(engine, task) == 0, "the statement was not cancelled")
        # The only connection of the pool is free, while the row is still locked.
        assert answer(server, call(key, STATELESS, "list_tasks")).startswith(b"HTTP/1.1 200")
    assert is_open(engine, task)
    listed = answer(server, call(key, STATELESS, "list_tasks"))
    assert b"Wait" in listed
    assert "The client has cancelled the request." in server.log()
    assert "Traceback" not in server.log()


def test_call_that_waits_for_a_connection_is_cancelled(server: WebServer, key: Key, task: str, engine: Engine) -> None:
    """The second call has not reached the database when its client leaves."""
    with locked(engine, task):
        first = connect(server, call(key, STATELESS, "complete_task", task_id=task))
        wait_until(lambda: waiting(engine, task) == 1, "the call does not wait for the row")
        second = connect(server, call(key, STATELESS, "update_task", task_id=task, title="Changed"))
        second.close()
        first.close()
        wait_until(lambda: waiting(engine, task) == 0, "the statement was not cancelled")
        assert answer(server, call(key, STATELESS, "list_tasks")).startswith(b"HTTP/1.1 200")
    assert is_open(engine, task)
    assert b"Changed" not in answer(server, call(key, STATELESS, "list_tasks"))


def test_call_ends_at_its_timeout(key: Key, task: str, engine: Engine, database_url: str, tmp_path: Path) -> None:
    settings = {**SETTINGS, "TOOL_CALL_TIMEOUT": "0.5"}
    with WebServer(tmp_path, DATABASE_URL=database_url, WEB_WORKERS="1", **settings) as server, locked(engine, task):
        body = answer(server, call(key, STATELESS, "complete_task", task_id=task))
        assert b'"isError":true' in body
        assert b"it changed nothing" in body
    assert is_open(engine, task)


def test_notification_of_earlier_revision_cancels_the_call_at_any_worker(
    key: Key, task: str, engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """A closed connection does not, as these revisions demand."""
    other = make_request_of_another_client(key)
    with (
        embedded.lease_redis(run_folder(), durable=False) as redis,
        WebServer(
            tmp_path,
            DATABASE_URL=database_url,
            WEB_WORKERS="3",
            **{**SETTINGS, "DB_POOL_SIZE": "3", "RATE_LIMIT_URL": redis.url},
        ) as server,
        locked(engine, task),
    ):
        wait_until(lambda: len(server.workers()) == 3, "not all workers have started")
        connection = connect(server, call(key, HANDSHAKE, "complete_task", task_id=task))
        wait_until(lambda: waiting(engine, task) == 1, "the call does not wait for the row")
        for sent in (other, request(key, HANDSHAKE, "notifications/cancelled", None, requestId=REQUEST_ID + 1)):
            assert answer(server, sent).startswith(b"HTTP/1.1 202")
        connection.settimeout(1.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(60)
        sent = request(key, HANDSHAKE, "notifications/cancelled", None, requestId=REQUEST_ID, reason="changed my mind")
        assert answer(server, sent).startswith(b"HTTP/1.1 202")
        assert b"The client has cancelled the request." in b"".join(iter(lambda: connection.recv(65_536), b""))
        connection.close()
        wait_until(lambda: waiting(engine, task) == 0, "the statement was not cancelled")
    assert is_open(engine, task)


def make_request_of_another_client(key: Key) -> bytes:
    """Return a cancellation of the same id by a client with the same key, whose user agent differs."""
    sent = request(key, HANDSHAKE, "notifications/cancelled", None, requestId=REQUEST_ID)
    return sent.replace(b"User-Agent: tests", b"User-Agent: others")
