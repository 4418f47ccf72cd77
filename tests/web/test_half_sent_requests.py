"""Requests of which a part is missing: they are bounded, and others are served all the same."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask

from tests.factories import PASSWORD, LoggedInUser
from tests.faults.raw import exchange
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process

HEAD = b"GET /health/live HTTP/1.1\r\nHost: parley\r\n"
BODY = (
    b"POST /api/auth/login HTTP/1.1\r\nHost: parley\r\nContent-Type: application/json\r\n%sContent-Length: 100\r\n\r\n{"
)

Send = Callable[[bytes, int], list[socket.socket]]


@pytest.fixture(scope="module")
def make_server(
    flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., WebServer]]:
    with ExitStack() as servers:

        def make(**settings: str) -> WebServer:
            home: Path = tmp_path_factory.mktemp("web")
            server = WebServer(home, DATABASE_URL=database_url, WEB_WORKERS="1", AI_PROVIDER="demo", **settings)
            return servers.enter_context(server)

        yield make


@pytest.fixture(scope="module")
def server(make_server: Callable[..., WebServer]) -> WebServer:
    return make_server()


@pytest.fixture(scope="module")
def behind_proxy(make_server: Callable[..., WebServer]) -> WebServer:
    return make_server(TRUSTED_PROXIES="1")


@pytest.fixture
def send_to() -> Iterator[Callable[[WebServer, bytes, int], list[socket.socket]]]:
    """Return a function that opens connections and sends the same bytes on each."""
    with ExitStack() as connections:

        def send_to(server: WebServer, data: bytes, count: int) -> list[socket.socket]:
            clients = [
                connections.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
                for _ in range(count)
            ]
            for client in clients:
                client.sendall(data)
            return clients

        yield send_to


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(65_536) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def status_of(client: socket.socket) -> int:
    """Return the status of the response that has arrived, 0 without one."""
    client.setblocking(False)
    try:
        return int(client.recv(65_536).split()[1])
    except (BlockingIOError, ConnectionError, IndexError):
        return 0


def log_in(server: WebServer, user: LoggedInUser, **headers: str) -> int:
    return server.post("/api/auth/login", {"email": user.email, "password": PASSWORD}, headers).status


@pytest.mark.parametrize("data", [HEAD, b"G", b""], ids=["head", "letter", "nothing"])
def test_oldest_incomplete_heads_of_one_address_are_closed(
    server: WebServer, user: LoggedInUser, send_to: Callable[..., list[socket.socket]], data: bytes
) -> None:
    clients = send_to(server, data, 600)
    assert server.http.request("GET", f"{server.url}/health/live").status == 200
    assert log_in(server, user) == 200
    assert all(is_closed(client) for client in clients[:300]), "the oldest were not closed"


def test_incomplete_bodies_of_one_address_are_refused(
    server: WebServer, user: LoggedInUser, send_to: Callable[..., list[socket.socket]]
) -> None:
    clients = send_to(server, BODY % b"", 600)
    assert server.http.request("GET", f"{server.url}/health").status == 200
    # With a token, the user is counted and not the address.
    assert server.http.request("GET", f"{server.url}/api/conversations", headers=user.headers).status == 200
    statuses = wait_until(lambda: answered if len(answered := [*filter(None, map(status_of, clients))]) > 100 else None)
    assert set(statuses) <= {400, 429}


def test_trusted_proxy_is_not_one_caller(
    behind_proxy: WebServer, user: LoggedInUser, send_to: Callable[..., list[socket.socket]]
) -> None:
    """More connections than one address may have stay open, and callers are identified by the forwarded address."""
    idle = send_to(behind_proxy, b"", 150)
    bodies = send_to(behind_proxy, BODY % b"X-Forwarded-For: 203.0.113.7\r\n", 150)
    wait_until(lambda: any(status_of(client) == 429 for client in bodies))
    assert log_in(behind_proxy, user, **{"X-Forwarded-For": "203.0.113.8"}) == 200
    assert log_in(behind_proxy, user, **{"X-Forwarded-For": "203.0.113.7"}) == 429
    assert behind_proxy.http.request("GET", f"{behind_proxy.url}/health/live").status == 200
    del idle


def test_many_tiny_chunks_are_refused(server: WebServer) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: parley\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"1\r\n \r\n" * 900_000 + b"0\r\n\r\n"
    for path, expected in ((b"/api/auth/login", 400), (b"/api/projects", 401), (b"/nothing", 404), (b"/health", 405)):
        reply = exchange(server.port, head % path + chunks)
        assert (reply.status, reply.is_problem) == (expected, True)


def test_moderate_chunks_are_accepted(server: WebServer, user: LoggedInUser) -> None:
    head = (
        "POST /api/projects HTTP/1.1\r\nHost: parley\r\nContent-Type: application/json\r\n"
        f"Authorization: {user.headers['Authorization']}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = b'{"name": "x"}' + b" " * 100
    for size, count in ((1, len(body)), (100, 5000)):
        data = (body + b" " * (size * count - len(body)))[: size * count]
        chunks = b"".join(b"%x\r\n%s\r\n" % (size, data[at : at + size]) for at in range(0, len(data), size))
        assert exchange(server.port, head.encode() + chunks + b"0\r\n\r\n").status == 201


def test_unread_body_does_not_keep_worker_reading(server: WebServer) -> None:
    """A refused request that announces a gigabyte gets its response, and the connection is closed."""
    head = b"POST /api/projects HTTP/1.1\r\nHost: parley\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        sent = 0
        client.sendall(head)
        try:
            while sent < 200_000_000:
                sent += client.send(b"x" * 65_536)
        except ConnectionError:
            pass
    assert sent < 100_000_000, "the body was read on"
    reply = exchange(server.port, head + b"x" * 100_000)
    assert (reply.status, reply.is_problem) == (401, True)
