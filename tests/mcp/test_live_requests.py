"""Requests as bytes to a server with two workers: bodies that are too large or too slow, and messages to any worker."""

import contextlib
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.api.keys import Key
from tests.api.mcp.messages import HANDSHAKE
from tests.mcp.conftest import McpServer

pytestmark = [pytest.mark.process, pytest.mark.timeout(300), pytest.mark.xdist_group("mcp_peers")]

INVALID_REQUEST = -32600
HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def two_workers(key: Key, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    home: Path = tmp_path_factory.mktemp("mcp-two")
    settings = {"WEB_WORKERS": "2", "MCP_TEST_TOKEN": key.secret, "BODY_TIMEOUT": "1"}
    with McpServer(home, DATABASE_URL=database_url, **settings) as server:
        yield server


def exchange(server: McpServer, pieces: Iterable[bytes]) -> tuple[int, dict[str, str], bytes]:
    """Send pieces of a request, and return status, headers and body of the response."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        with contextlib.suppress(OSError):  # the server may answer and close before the last piece
            for piece in pieces:
                connection.sendall(piece)
        received = b""
        with contextlib.suppress(ConnectionResetError):  # after the response to a body that was not read
            while chunk := connection.recv(65_536):
                received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), {name.lower(): value for name, value in headers.items()}, body


def message(body: Any, *headers: str) -> list[bytes]:
    encoded = orjson.dumps(body)
    added = "".join(f"{header}\r\n" for header in headers).encode()
    return [HEAD + added + b"Content-Length: %d\r\n\r\n" % len(encoded), encoded]


def test_chunked_body_above_limit_is_413_of_the_protocol(two_workers: McpServer) -> None:
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    status, _, body = exchange(two_workers, [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 17, b"0\r\n\r\n"])
    error = orjson.loads(body)["error"]
    assert (status, error["code"], "larger" in error["message"]) == (413, INVALID_REQUEST, True)


def test_body_that_stops_is_408_of_the_protocol(two_workers: McpServer) -> None:
    status, _, body = exchange(two_workers, [HEAD + b"Content-Length: 100\r\n\r\n{"])
    assert (status, orjson.loads(body)["error"]["code"]) == (408, INVALID_REQUEST)


def test_get_with_event_stream_is_405_at_once(two_workers: McpServer) -> None:
    head = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
    status, headers, _ = exchange(two_workers, [head])
    assert (status, "POST" in headers["allow"]) == (405, True)


def test_any_worker_answers_any_message_of_a_client(two_workers: McpServer) -> None:
    """Neither the worker nor the order of the messages matters, so the handshake may reach another one."""
    version = f"MCP-Protocol-Version: {HANDSHAKE}"
    client = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    for number in range(20):
        status, _, body = exchange(
            two_workers, message({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client})
        )
        assert (status, orjson.loads(body)["result"]["protocolVersion"]) == (200, HANDSHAKE)
        call = {"name": "test_simple_text", "arguments": {}}
        status, headers, body = exchange(
            two_workers, message({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}, version)
        )
        assert (status, orjson.loads(body)["id"]) == (200, number)
        assert headers["x-accel-buffering"] == "no"


def test_client_that_leaves_before_its_response_harms_nothing(two_workers: McpServer) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", two_workers.port), timeout=60) as connection:
            for piece in message({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}):
                connection.sendall(piece)
    status, _, body = exchange(two_workers, message({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}))
    assert (status, orjson.loads(body)["id"]) == (200, 2)
    assert "Traceback" not in two_workers.log()


def test_refusal_is_in_the_log_without_the_credential(two_workers: McpServer) -> None:
    status, headers, _ = exchange(
        two_workers,
        message(
            {"jsonrpc": "2.0", "id": 1, "method": "ping"},
            "Authorization: Bearer prl_not-a-real-key",
            "X-Request-ID: mine",
        ),
    )
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    lines = [orjson.loads(line) for line in two_workers.log().splitlines() if line.startswith("{")]
    [refusal] = [line for line in lines if line.get("request_id") == "mine" and line["logger"] == "parley.mcp"]
    assert "MCP request refused: This API key is incomplete" in refusal["message"]
    assert (refusal["status"], refusal["code"]) == (401, "not_authenticated")
    assert "not-a-real-key" not in two_workers.log()
