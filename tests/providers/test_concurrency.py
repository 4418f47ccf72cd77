"""Many concurrent requests to one provider: in threads, and under gevent as in a web worker."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.providers.base import ChatMessage, ChatRequest
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.dripping import DrippingProxy
from tests.fakes.exchange import Exchange
from tests.fakes.tls import CERTIFICATE, server_context
from tests.fakes.upstream import Upstream
from tests.providers.conftest import read_answer

THREADS = 50


def test_fifty_threads_share_one_provider(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.echo(pause=0.05)
    barrier = threading.Barrier(THREADS, timeout=20)

    def chat(number: int) -> tuple[str, str]:
        barrier.wait()
        first = read_answer(provider, ChatRequest([ChatMessage("user", f"first {number}")])).text
        return first, read_answer(provider, ChatRequest([ChatMessage("user", f"second {number}")])).text

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(chat, range(THREADS)))
    assert answers == [
        (f"1 messages; last: first {number}", f"1 messages; last: second {number}") for number in range(THREADS)
    ]
    assert upstream.connections <= THREADS, "the second chats reuse connections"
    assert upstream.disconnects == 0


@pytest.fixture
def under_gevent() -> Callable[..., dict[str, int]]:
    def run(
        url: str,
        count: int,
        *,
        idle: float = 20,
        connect: float = 10,
        cancel_after: float | None = None,
        **environment: str,
    ) -> dict[str, int]:
        numbers = [count, idle, connect] if cancel_after is None else [count, idle, connect, cancel_after]
        command = [sys.executable, "-m", "tests.providers.gevent_streams", url, *map(str, numbers)]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return run


@pytest.mark.process
def test_hundred_slow_streams_run_concurrently_under_gevent(
    upstream: Upstream, under_gevent: Callable[..., dict[str, int]]
) -> None:
    upstream.script = scripts.words(count=10, pause=0.1, first=0.5)
    text = "".join(f"word{number} " for number in range(10))
    assert under_gevent(upstream.base_url, 100) == {text: 100}
    assert upstream.peak_streams == 100, "a waiting greenlet blocks the others"
    upstream.wait_for(lambda: upstream.open_connections == 0)


@pytest.mark.process
def test_tls_streams_under_gevent(under_gevent: Callable[..., dict[str, int]]) -> None:
    with Upstream(scripts.words(count=3, pause=0.02), tls=server_context()) as upstream:
        assert under_gevent(upstream.base_url, 20, SSL_CERT_FILE=str(CERTIFICATE)) == {"word0 word1 word2 ": 20}


@pytest.mark.process
@pytest.mark.parametrize(
    ("fast_bytes", "deadlines", "text"),
    [
        (0, {"connect": 0.5}, "accepted no connection within 0.5 seconds"),
        (3000, {"idle": 0.5, "connect": 10}, "sent nothing for 0.5 seconds"),
    ],
    ids=["handshake", "record"],
)
def test_deadlines_hold_for_slow_tls_under_gevent(
    under_gevent: Callable[..., dict[str, int]], fast_bytes: int, deadlines: dict[str, float], text: str
) -> None:
    """gevent applies its timeout to each packet of a TLS record; the deadlines must hold nevertheless."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "word0"}))
        await exchange.send(b"data: " + b"a" * 12_000)
        await exchange.pause(None)

    with (
        Upstream(script, tls=server_context()) as upstream,
        DrippingProxy(upstream.port, fast_bytes=fast_bytes) as proxy,
    ):
        details = under_gevent(f"https://127.0.0.1:{proxy.port}/v1", 1, SSL_CERT_FILE=str(CERTIFICATE), **deadlines)
    assert list(details.values()) == [1]
    assert text in next(iter(details))


@pytest.mark.process
@pytest.mark.parametrize("piece", [b": ping\n\n", b'data: {"choices": []}\n\n'], ids=["comments", "empty chunks"])
def test_fast_stream_does_not_block_other_greenlets(
    under_gevent: Callable[..., dict[str, int]], upstream: Upstream, piece: bytes
) -> None:
    """The cancelling greenlet must run although data is always available."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.send(piece * 20_000)

    upstream.script = script
    [detail] = under_gevent(upstream.base_url, 1, cancel_after=0.5)
    assert "connection" in detail


@pytest.mark.process
def test_cancel_under_gevent(under_gevent: Callable[..., dict[str, int]]) -> None:
    with Upstream(scripts.hang(after=1), tls=server_context()) as upstream:
        details = under_gevent(upstream.base_url, 5, cancel_after=0.5, SSL_CERT_FILE=str(CERTIFICATE))
        upstream.wait_for(lambda: upstream.disconnects == 5)
    assert sum(details.values()) == 5
    assert all("connection" in detail for detail in details)
