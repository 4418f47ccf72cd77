"""Security under gunicorn as in production: oversized heads and bodies, proxies, and uses of keys."""

import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from tests.api.keys import Key, make_key
from tests.factories import LoggedInUser
from tests.web.server import WebServer

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("security_live")]

LIMIT = 70_000


@pytest.fixture(scope="module")
def server(flask_app: Flask, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    home: Path = tmp_path_factory.mktemp("live")
    settings = {
        "AI_PROVIDER": "demo",
        "CORS_ORIGINS": "https://chat.example.org",
        "MAX_BODY_BYTES": str(LIMIT),
        "TRUSTED_PROXIES": "0",
    }
    with WebServer(home, DATABASE_URL=database_url, WEB_WORKERS="1", **settings) as server:
        yield server


@pytest.fixture
def key(flask_app: Flask, user: LoggedInUser) -> Key:
    return make_key(flask_app, user)


def raw(server: WebServer, sent: bytes) -> bytes:
    """Send bytes and return the response until the server closes the connection."""
    port = urlsplit(server.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while piece := connection.recv(65_536):
            answer += piece
    return bytes(answer)


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 201), (LIMIT + 1, 413), (10 * LIMIT, 413)])
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_body_sizes(server: WebServer, key: Key, size: int, status: int, chunked: bool) -> None:
    body = b'{"name": "x"}'.ljust(size)
    answer = server.http.request(
        "POST",
        f"{server.url}/api/projects",
        body=io.BytesIO(body) if chunked else body,
        headers={**key.headers, "Content-Type": "application/json"},
        chunked=chunked,
    )
    assert answer.status == status
    if status == 413:
        assert json.loads(answer.data)["code"] == "too_large"
        assert chunked or answer.headers["Connection"] == "close"  # the body was not read
    # The connection, or a new one, serves the next request.
    assert server.http.request("GET", f"{server.url}/api/projects", headers=key.headers).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health?" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9_000 + b"\r\n\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-Many: x\r\n" * 100 + b"\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 8_000 + b"\r\nConnection: close\r\n\r\n", b"200"),
    ],
)
def test_oversized_or_malformed_head_is_refused(server: WebServer, head: bytes, status: bytes) -> None:
    answer = raw(server, head)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]


def test_server_header_has_no_version(server: WebServer) -> None:
    answer = server.http.request("GET", f"{server.url}/health")
    assert answer.headers.get("Server", "gunicorn") == "gunicorn"
    assert "X-Powered-By" not in answer.headers


def test_forwarding_headers_of_local_caller_are_ignored(server: WebServer, user: LoggedInUser, engine: Engine) -> None:
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "on"}
    body = {"email": user.email, "password": user.password}
    answer = server.post("/api/auth/login", body, lies)
    assert answer.status == 200
    assert "Strict-Transport-Security" not in answer.headers
    with engine.connect() as connection:
        addresses = connection.execute(text("SELECT address FROM sessions WHERE user_id = :u"), {"u": user.id})
        assert set(addresses.scalars()) == {None, "127.0.0.1"}


def test_preflight_and_request(server: WebServer, key: Key) -> None:
    asks = {"Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST"}
    preflight = server.http.request("OPTIONS", f"{server.url}/api/chat", headers=asks)
    assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, asks["Origin"])
    headers = {**key.headers, "Origin": asks["Origin"], "Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    stream = server.post("/api/chat", {"message": "hello"}, headers, decode_content=False)
    assert stream.headers["Access-Control-Allow-Origin"] == asks["Origin"]
    assert "Content-Encoding" not in stream.headers
    assert b"event: turn.completed" in stream.data


def test_gzip_response_is_complete(server: WebServer, key: Key) -> None:
    url = f"{server.url}/api/projects"
    server.post("/api/projects", {"name": "x", "description": "many words " * 150}, key.headers)
    packed = server.http.request("GET", url, headers={**key.headers, "Accept-Encoding": "gzip"})
    plain = server.http.request("GET", url, headers={**key.headers, "Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) < len(plain.data) == int(plain.headers["Content-Length"])
    assert packed.data == plain.data  # unpacked by urllib3


def test_key_use_is_recorded_and_not_logged(server: WebServer, key: Key, engine: Engine) -> None:
    """Under gevent the background thread is a greenlet."""
    wrong = {"Authorization": key.headers["Authorization"][:-1] + "!"}
    for headers, status in ((key.headers, 200), (wrong, 401)):
        assert server.http.request("GET", f"{server.url}/api/projects", headers=headers).status == status
    used, pause = None, threading.Event()
    for _ in range(500):
        with engine.connect() as connection:
            used = connection.execute(
                text("SELECT last_used_at FROM api_keys WHERE id = :k"), {"k": key.id}
            ).scalar_one()
        if used:
            break
        pause.wait(0.02)  # PostgreSQL has no event for a written row
    assert used
    assert key.secret[10:-1] not in server.log()
