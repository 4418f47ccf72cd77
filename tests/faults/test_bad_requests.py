"""Malformed requests, sent to a real web server over a plain socket."""

from collections.abc import Iterator

import orjson
import pytest

from app.config import Settings
from app.metrics.registry import OTHER
from tests.faults.live_server import LiveServer
from tests.faults.raw import exchange
from tests.metrics.scrape import parse

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("bad_requests")]


@pytest.fixture(scope="module")
def server(
    settings: Settings, flask_app: object, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path_factory.mktemp("web"), database_url, AI_PROVIDER="demo", WEB_WORKERS="1")
    try:
        server.start_web()
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-1\r\n\r\n", b"5\r\nabcdefgh\r\n", b"5;=\x00\r\nhello\r\n0\r\n\r\n"])
def test_malformed_chunks_return_400(server: LiveServer, chunks: bytes) -> None:
    head = (
        b"POST /api/auth/login HTTP/1.1\r\nHost: parley\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    reply = exchange(server.port, head + chunks)
    assert reply.status == 400
    assert reply.is_problem


REJECTED = [
    pytest.param(b"GARBAGE\r\n\r\n", 400, id="no request line"),
    pytest.param(b"G@T / HTTP/1.1\r\nHost: parley\r\n\r\n", 400, id="invalid method"),
    pytest.param(b"GET / HTTP/9.9\r\nHost: parley\r\n\r\n", 400, id="unknown version"),
    pytest.param(b"GET / HTTP/1.1\r\nHost parley\r\n\r\n", 400, id="header without colon"),
    pytest.param(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400, id="folded header"),
    pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="negative length"),
    pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="two lengths"),
    pytest.param(b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: parley\r\n\r\n", 414, id="long request line"),
    pytest.param(b"GET / HTTP/1.1\r\nA: " + b"x" * 9_000 + b"\r\n\r\n", 431, id="long header"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431, id="many headers"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 2_000_000, 431, id="endless header"),
    pytest.param(b"POST / HTTP/1.1\r\nExpect: a-miracle\r\n\r\n", 417, id="unknown expectation"),
    pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: zebra\r\n\r\n", 501, id="unknown transfer coding"),
]


@pytest.mark.parametrize(("request_bytes", "status"), REJECTED)
def test_request_rejected_by_the_server_gets_a_problem_document(
    server: LiveServer, request_bytes: bytes, status: int
) -> None:
    reply = exchange(server.port, request_bytes)
    assert reply.status == status
    assert reply.is_problem
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-content-type-options"] == "nosniff"
    problem = orjson.loads(reply.body)
    assert reply.headers["x-request-id"] == problem["request_id"]
    assert problem["request_id"] in server.log()


def test_rejected_request_is_not_quoted_in_response_or_log(server: LiveServer) -> None:
    reply = exchange(server.port, b"GET / HTTP/1.1\r\nAuthorization: Bearer hush-hush-hush\x00\r\n\r\n")
    assert reply.status == 400
    assert b"hush" not in reply.body
    assert "hush" not in server.log()


def test_rejected_request_is_counted_in_metrics(server: LiveServer) -> None:
    def rejected() -> float:
        metrics = parse(server.http.request("GET", f"{server.url}/metrics").data.decode())
        return metrics.value("http_request_duration_seconds_count", method=OTHER, route=OTHER, status_class="4xx")

    before = rejected()
    exchange(server.port, b"GARBAGE\r\n\r\n")
    assert rejected() == before + 1
