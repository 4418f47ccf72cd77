"""Whoever sends slowly, or not at all, does not keep a place for ever."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.factories import Account
from tests.web.server import WebServer

pytestmark = pytest.mark.process


@pytest.fixture
def server(flask_app: Flask, database_url: str, tmp_path: Path) -> Iterator[WebServer]:
    settings = {"DATABASE_URL": database_url, "WEB_WORKERS": "1", "AI_PROVIDER": "demo", "BODY_TIMEOUT": "1"}
    with WebServer(tmp_path, **settings) as server:
        yield server


def test_a_body_that_does_not_come_is_given_up(server: WebServer, user: Account) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20) as client:
        head = (
            "POST /api/chat HTTP/1.1\r\nHost: parley\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            f"Authorization: {user.headers['Authorization']}\r\nConnection: close\r\n\r\n"
        )
        client.sendall(head.encode() + b'{"message": ')
        began = time.monotonic()
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
        waited = time.monotonic() - began
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code":"too_slow"' in answer
    assert 0.5 < waited < 15
    assert server.http.request("GET", f"{server.url}/health").status == 200
