"""One provider, many chats: in threads, and under gevent as in a web worker."""

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
from tests.providers.conftest import listen

THREADS = 50


def test_fifty_threads_share_one_provider(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.echo(pause=0.05)
    together = threading.Barrier(THREADS, timeout=20)

    def chat(number: int) -> tuple[str, str]:
        together.wait()
        first = listen(provider, ChatRequest([ChatMessage("user", f"first {number}")])).text
        return first, listen(provider, ChatRequest([ChatMessage("user", f"second {number}")])).text

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(chat, range(THREADS)))
    assert answers == [
        (f"1 messages; last: first {number}", f"1 messages; last: second {number}") for number in range(THREADS)
    ]
    assert upstream.connections <= THREADS, "the second chats found connections to use again"
    assert upstream.disconnects == 0


@pytest.fixture
def under_gevent() -> Callable[..., dict[str, int]]:
    def run(
        url: str, count: int, *, idle: float = 20, connect: float = 10, hang_up: float | None = None, **environment: str
    ) -> dict[str, int]:
        numbers = [count, idle, connect] if hang_up is None else [count, idle, connect, hang_up]
        command = [sys.executable, "-m", "tests.providers.gevent_streams", url, *map(str, numbers)]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return run


@pytest.mark.process
def test_a_hundred_slow_streams_under_gevent(upstream: Upstream, under_gevent: Callable[..., dict[str, int]]) -> None:
    upstream.script = scripts.words(count=10, pause=0.1, first=0.5)
    said = "".join(f"word{number} " for number in range(10))
    assert under_gevent(upstream.base_url, 100) == {said: 100}
    assert upstream.peak_streams == 100, "one greenlet's wait must not hold up the others"
    upstream.wait_for(lambda: upstream.open_connections == 0)


@pytest.mark.process
def test_tls_under_gevent(under_gevent: Callable[..., dict[str, int]]) -> None:
    with Upstream(scripts.words(count=3, pause=0.02), tls=server_context()) as upstream:
        assert under_gevent(upstream.base_url, 20, SSL_CERT_FILE=str(CERTIFICATE)) == {"word0 word1 word2 ": 20}


@pytest.mark.process
@pytest.mark.parametrize(
    ("freely", "deadlines", "says"),
    [
        (0, {"connect": 0.5}, "accepted no connection within 0.5 seconds"),
        (3000, {"idle": 0.5, "connect": 10}, "fell silent for 0.5 seconds"),
    ],
    ids=["handshake", "record"],
)
def test_tls_that_drips_under_gevent(
    under_gevent: Callable[..., dict[str, int]], freely: int, deadlines: dict[str, float], says: str
) -> None:
    """gevent waits its whole timeout again for every packet of a TLS record: our deadlines must hold nevertheless."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "word0"}))
        await exchange.send(b"data: " + b"a" * 12_000)
        await exchange.pause(None)

    with Upstream(script, tls=server_context()) as upstream, DrippingProxy(upstream.port, freely=freely) as proxy:
        said = under_gevent(f"https://127.0.0.1:{proxy.port}/v1", 1, SSL_CERT_FILE=str(CERTIFICATE), **deadlines)
    assert list(said.values()) == [1]
    assert says in next(iter(said))


@pytest.mark.process
@pytest.mark.parametrize("piece", [b": ping\n\n", b'data: {"choices": []}\n\n'], ids=["comments", "empty chunks"])
def test_a_flood_under_gevent_holds_up_nobody_else(
    under_gevent: Callable[..., dict[str, int]], upstream: Upstream, piece: bytes
) -> None:
    """Who hangs up is a greenlet of its own, which must get its turn although there is always more to read."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        while True:
            await exchange.send(piece * 20_000)

    upstream.script = script
    [detail] = under_gevent(upstream.base_url, 1, hang_up=0.5)
    assert "connection" in detail


@pytest.mark.process
def test_hanging_up_under_gevent(under_gevent: Callable[..., dict[str, int]]) -> None:
    with Upstream(scripts.hang(after=1), tls=server_context()) as upstream:
        said = under_gevent(upstream.base_url, 5, hang_up=0.5, SSL_CERT_FILE=str(CERTIFICATE))
        upstream.wait_for(lambda: upstream.disconnects == 5)
    assert sum(said.values()) == 5
    assert all("connection" in detail for detail in said)
