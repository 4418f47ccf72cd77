"""Requests that no client library would send, over the wire, to the real web server."""

from collections.abc import Iterator

import orjson
import pytest

from app.config import Settings
from app.metrics.registry import OTHER
from tests.faults.raw import exchange
from tests.faults.rig import Rig
from tests.metrics.scrape import parse

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("bad_requests")]


@pytest.fixture(scope="module")
def rig(
    settings: Settings, flask_app: object, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("web"), database_url, AI_PROVIDER="demo", WEB_WORKERS="1")
    try:
        rig.start_web()
        yield rig
    finally:
        rig.stop()


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-1\r\n\r\n", b"5\r\nabcdefgh\r\n", b"5;=\x00\r\nhello\r\n0\r\n\r\n"])
def test_a_body_whose_chunks_are_malformed_is_the_senders_fault(rig: Rig, chunks: bytes) -> None:
    head = (
        b"POST /api/auth/login HTTP/1.1\r\nHost: parley\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    reply = exchange(rig.port, head + chunks)
    assert reply.status == 400
    assert reply.is_problem


REFUSED = [
    pytest.param(b"GARBAGE\r\n\r\n", 400, id="no request line"),
    pytest.param(b"G@T / HTTP/1.1\r\nHost: parley\r\n\r\n", 400, id="no method"),
    pytest.param(b"GET / HTTP/9.9\r\nHost: parley\r\n\r\n", 400, id="another version"),
    pytest.param(b"GET / HTTP/1.1\r\nHost parley\r\n\r\n", 400, id="a header without a colon"),
    pytest.param(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400, id="a folded header"),
    pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="a negative length"),
    pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="two lengths"),
    pytest.param(b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: parley\r\n\r\n", 414, id="a long line"),
    pytest.param(b"GET / HTTP/1.1\r\nA: " + b"x" * 9_000 + b"\r\n\r\n", 431, id="a long header"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431, id="many headers"),
    pytest.param(b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 2_000_000, 431, id="a header without end"),
    pytest.param(b"POST / HTTP/1.1\r\nExpect: a-miracle\r\n\r\n", 417, id="an expectation"),
    pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: zebra\r\n\r\n", 501, id="a transfer coding"),
]


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED)
def test_what_never_reaches_the_application_is_refused_in_its_words(
    rig: Rig, request_bytes: bytes, status: int
) -> None:
    reply = exchange(rig.port, request_bytes)
    assert reply.status == status
    assert reply.is_problem
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-content-type-options"] == "nosniff"
    problem = orjson.loads(reply.body)
    assert reply.headers["x-request-id"] == problem["request_id"]
    assert problem["request_id"] in rig.log.read_text()


def test_a_refusal_keeps_what_was_sent_out_of_answer_and_log(rig: Rig) -> None:
    reply = exchange(rig.port, b"GET / HTTP/1.1\r\nAuthorization: Bearer hush-hush-hush\x00\r\n\r\n")
    assert reply.status == 400
    assert b"hush" not in reply.body
    assert "hush" not in rig.log.read_text()


def test_refusals_are_counted(rig: Rig) -> None:
    def refused() -> float:
        shown = parse(rig.http.request("GET", f"{rig.url}/metrics").data.decode())
        return shown.value("http_request_duration_seconds_count", method=OTHER, route=OTHER, status_class="4xx")

    before = refused()
    exchange(rig.port, b"GARBAGE\r\n\r\n")
    assert refused() == before + 1
