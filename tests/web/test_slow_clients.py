"""Clients that stop sending or reading are disconnected."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Engine, insert

from app.models import Message
from tests.factories import LoggedInUser, make_conversation
from tests.waiting import wait_until
from tests.web.server import WebServer

pytestmark = pytest.mark.process


@pytest.fixture
def server(flask_app: Flask, database_url: str, tmp_path: Path) -> Iterator[WebServer]:
    settings = {"DATABASE_URL": database_url, "WEB_WORKERS": "1", "AI_PROVIDER": "demo"}
    with WebServer(tmp_path, **settings, BODY_TIMEOUT="1", SEND_TIMEOUT="1") as server:
        yield server


def test_body_that_does_not_arrive_returns_408(server: WebServer, user: LoggedInUser) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20) as client:
        head = (
            "POST /api/chat HTTP/1.1\r\nHost: parley\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            f"Authorization: {user.headers['Authorization']}\r\nConnection: close\r\n\r\n"
        )
        client.sendall(head.encode() + b'{"message": ')
        began = time.monotonic()
        answer = b""
        while data := client.recv(65_536):
            answer += data
        waited = time.monotonic() - began
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code":"too_slow"' in answer
    assert 0.5 < waited < 15
    assert server.http.request("GET", f"{server.url}/health").status == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="needs TCP_USER_TIMEOUT (Linux)")
def test_client_that_does_not_read_is_disconnected(server: WebServer, user: LoggedInUser, engine: Engine) -> None:
    conversation = make_conversation(engine, user)
    row = {"user_id": user.id, "conversation_id": conversation, "role": "assistant", "content": "x" * 1_000_000}
    with engine.begin() as connection:  # more than the buffers of the kernel hold
        connection.execute(insert(Message), [{**row, "position": position} for position in range(1, 11)])
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        head = (
            f"GET /api/conversations/{conversation}/messages HTTP/1.1\r\nHost: parley\r\n"
            f"Authorization: {user.headers['Authorization']}\r\n\r\n"
        )
        client.sendall(head.encode())
        assert client.recv(8) == b"HTTP/1.1"
        [worker] = server.workers()
        port = client.getsockname()[1]

        def is_connected() -> bool:
            return any(peer.raddr and peer.raddr.port == port for peer in worker.net_connections("tcp"))

        assert is_connected()
        wait_until(lambda: not is_connected(), "the connection is still open")
