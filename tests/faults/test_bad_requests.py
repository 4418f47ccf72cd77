"""Requests that no client library would send, over the wire, to the real web server."""

from collections.abc import Iterator

import pytest

from app.config import Settings
from tests.faults.raw import exchange
from tests.faults.rig import Rig

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
