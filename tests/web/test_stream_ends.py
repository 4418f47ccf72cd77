"""Streams of a session or API key that ends: every worker closes them, and the turn is completed and stored."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from sqlalchemy import Engine, text

from tests.api.keys import make_key
from tests.event_source import TurnReader, parse
from tests.factories import PASSWORD, LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

WORKERS = 2
MAX_CONNECTIONS = 100  # to reach each worker
SECONDS = 3.0  # about one, on a busy machine


@pytest.fixture(scope="module")
def server(flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with Upstream(scripts.words(40, pause=0.2)) as upstream:
        settings = {"AI_PROVIDER": "compatible", "OPENAI_BASE_URL": upstream.base_url, "WEB_WORKERS": str(WORKERS)}
        folder = tmp_path_factory.mktemp("web")
        with WebServer(folder, DATABASE_URL=database_url, LOG_LEVEL="DEBUG", **settings) as server:
            wait_until(lambda: len(server.workers()) == WORKERS, "all workers")
            yield server


@dataclass
class OpenStream:
    """A stream that is read in a thread, and the time of its end."""

    connection: HTTPConnection
    reader: TurnReader = field(default_factory=TurnReader)
    ended_at: float = 0

    def request(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> None:
        data = None if body is None else orjson.dumps(body)
        self.connection.request(method, path, data, {**headers, "Content-Type": "application/json"})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self._events = parse(iter(self.response.readline, b""))

    def read(self, count: int | None = None) -> "OpenStream":
        self.reader.read(self._events, count)
        self.ended_at = time.monotonic()
        return self


@pytest.fixture
def open_stream(server: WebServer) -> Iterator[Callable[..., OpenStream]]:
    """Return a function that sends a request on a connection of its own and reads the first event."""
    with ExitStack() as connections:

        def open_stream(method: str, path: str, headers: dict[str, str], body: Any = None) -> OpenStream:
            connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
            stream = OpenStream(connections.enter_context(closing(connection)))
            stream.request(method, path, headers, body)
            return stream.read(1)

        yield open_stream


@pytest.fixture
def streams(server: WebServer, open_stream: Callable[..., OpenStream]) -> Callable[..., list[OpenStream]]:
    """Return a function that starts a turn and opens streams of it until each worker has one.

    `query` is a function that returns the query for the turn's events, where the headers are not sent.
    """

    def streams(headers: dict[str, str], query: Callable[[str], str] | None = None) -> list[OpenStream]:
        first = open_stream("POST", "/api/chat", headers, {"message": "hello", "stream": True})
        path = f"/api/turns/{first.reader.turn['id']}/events"
        opened, used = [first], {worker_of(server, first)}
        while len(used) < WORKERS:
            assert len(opened) < MAX_CONNECTIONS
            target, sent = (path, headers) if query is None else (path + query(path), {})
            opened.append(open_stream("GET", target, sent))
            used.add(worker_of(server, opened[-1]))
        return opened

    return streams


def worker_of(server: WebServer, stream: OpenStream) -> int:
    port = stream.connection.sock.getsockname()[1]
    return next(
        worker.pid
        for worker in server.workers()
        if any(peer.raddr and peer.raddr.port == port for peer in worker.net_connections("tcp4"))
    )


def assert_end_stops_streams(opened: list[OpenStream], end: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(opened)) as threads:
        pending = [threads.submit(stream.read) for stream in opened]
        time.sleep(0.5)
        assert not any(reader.done() for reader in pending)
        end()
        ended_at = time.monotonic()
        for reader in pending:
            reader.result(timeout=60)
    assert max(stream.ended_at for stream in opened) - ended_at < SECONDS


def assert_turn_completes(engine: Engine, user: LoggedInUser) -> None:
    def completed() -> bool:
        with engine.connect() as connection:
            query = text("SELECT content FROM messages WHERE user_id = :u AND role = 'assistant'")
            contents = connection.execute(query, {"u": user.id}).scalars().all()
        return contents == ["".join(f"word{number} " for number in range(40))]

    wait_until(completed, "the answer of the turn")


def logout(server: WebServer, user: LoggedInUser, admin: LoggedInUser) -> int:
    return server.post("/api/auth/logout", {}, user.headers).status


def change_password(server: WebServer, user: LoggedInUser, admin: LoggedInUser) -> int:
    body = {"current_password": PASSWORD, "new_password": "another correct horse"}
    return server.post("/api/auth/password", body, user.headers).status


def end_all_sessions(server: WebServer, user: LoggedInUser, admin: LoggedInUser) -> int:
    return server.post(f"/api/admin/users/{user.id}/logout", {}, admin.headers).status


def end_own_session(server: WebServer, user: LoggedInUser, admin: LoggedInUser) -> int:
    path = f"{server.url}/api/auth/sessions/{user.session_id}"
    return server.http.request("DELETE", path, headers=user.headers).status


@pytest.mark.parametrize("end", [logout, change_password, end_own_session, end_all_sessions])
def test_end_of_session_stops_its_streams_on_all_workers(
    server: WebServer,
    streams: Callable[..., list[OpenStream]],
    user: LoggedInUser,
    make_user: Callable[..., LoggedInUser],
    engine: Engine,
    end: Callable[..., int],
) -> None:
    admin = make_user(role="admin")

    def end_session() -> None:
        status = end(server, user, admin)
        assert status in (200, 204), status

    opened = streams(user.headers)
    assert_end_stops_streams(opened, end_session)
    assert {stream.reader.end for stream in opened} == {None}
    assert_turn_completes(engine, user)


def disable(server: WebServer, user: LoggedInUser, admin: LoggedInUser) -> int:
    return server.post(f"/api/admin/users/{user.id}/disable", {}, admin.headers).status


def delete_account(server: WebServer, user: LoggedInUser, admin: LoggedInUser) -> int:
    return server.post("/api/auth/delete", {"password": PASSWORD}, user.headers).status


@pytest.mark.parametrize("end", [disable, delete_account])
def test_end_of_account_stops_streams_and_cancels_turn(
    server: WebServer,
    streams: Callable[..., list[OpenStream]],
    user: LoggedInUser,
    make_user: Callable[..., LoggedInUser],
    engine: Engine,
    end: Callable[..., int],
) -> None:
    admin, opened = make_user(role="operator"), streams(user.headers)

    def end_account() -> None:
        status = end(server, user, admin)
        assert status in (200, 202), status

    assert_end_stops_streams(opened, end_account)
    assert {stream.reader.end for stream in opened} <= {None, "turn.cancelled"}

    def cancelled() -> bool:
        with engine.connect() as connection:
            return connection.scalar(text("SELECT status FROM turns WHERE user_id = :u"), {"u": user.id}) == "cancelled"

    wait_until(cancelled, "the end of the turn")


def test_revoked_key_stops_its_streams_on_all_workers(
    flask_app: Flask, server: WebServer, streams: Callable[..., list[OpenStream]], user: LoggedInUser, engine: Engine
) -> None:
    key = make_key(flask_app, user, ["chat"])

    def revoke() -> None:
        path = f"{server.url}/api/auth/keys/{key.id}"
        assert server.http.request("DELETE", path, headers=user.headers).status == 204

    assert_end_stops_streams(streams(key.headers), revoke)
    assert_turn_completes(engine, user)


def test_logout_stops_streams_that_a_ticket_opened(
    server: WebServer, streams: Callable[..., list[OpenStream]], user: LoggedInUser, engine: Engine
) -> None:
    def query(path: str) -> str:
        issued = server.post(path.replace("events", "ticket"), {}, user.headers).json()
        return f"?ticket={issued['ticket']}"

    opened = streams(user.headers, query)
    assert_end_stops_streams(opened, lambda: assert_status(logout(server, user, user)))
    assert_turn_completes(engine, user)


def assert_status(status: int) -> None:
    assert status == 204


def test_other_sessions_keep_their_streams(
    server: WebServer, open_stream: Callable[..., OpenStream], user: LoggedInUser, other_user: LoggedInUser
) -> None:
    body = {"message": "hello", "stream": True}
    streams = [open_stream("POST", "/api/chat", other_user.headers, body) for _ in range(3)]
    assert logout(server, user, user) == 204
    assert {stream.read().reader.end for stream in streams} == {"turn.completed"}


def test_logs_contain_no_ticket(
    server: WebServer, flask_app: Flask, database_url: str, user: LoggedInUser, tmp_path: Path
) -> None:
    """At the most verbose level, and with an access log, which is off by default."""
    settings = {"AI_PROVIDER": "demo", "LOG_LEVEL": "DEBUG", "WEB_WORKERS": "1"}
    command_line = "--access-logfile - --log-level debug"
    with WebServer(tmp_path, DATABASE_URL=database_url, GUNICORN_CMD_ARGS=command_line, **settings) as verbose:
        turn = verbose.post("/api/chat", {"message": "hello"}, user.headers).json()["turn"]["id"]
        ticket = verbose.post(f"/api/turns/{turn}/ticket", {}, user.headers).json()["ticket"]
        for sent, status in ((ticket, 200), (f"{ticket}x", 401)):
            url = f"{verbose.url}/api/turns/{turn}/events?ticket={sent}"
            assert verbose.http.request("GET", url).status == status
        verbose.stop()
        log = verbose.log()
    assert log.count("/events") >= 2
    assert ticket not in log
    assert ticket.rpartition(".")[2] not in log
