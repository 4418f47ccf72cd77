"""Each deadline holds against slow bytes. The tested deadline is short, the others are long."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from app.errors import ProviderTimedOut
from app.providers.base import TextDelta
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers.conftest import HELLO, MakeProvider, Received, read_answer

SHORT = 0.25


def timed_out(provider: ChatCompletions, received: Received | None = None) -> str:
    with pytest.raises(ProviderTimedOut) as caught:
        read_answer(provider, received=received)
    return caught.value.detail


@pytest.fixture
def port_with_full_backlog() -> Iterator[int]:
    """Yield a port with a full backlog: the next connection is neither accepted nor refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_connect_deadline(make_provider: MakeProvider, port_with_full_backlog: int) -> None:
    detail = timed_out(make_provider(url=f"http://127.0.0.1:{port_with_full_backlog}/v1", connect=SHORT))
    assert detail == "The provider compatible accepted no connection within 0.25 seconds."


def test_connect_deadline_bounds_name_lookup(make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_: Any, flags: int = 0, **__: Any) -> None:
        if not flags & socket.AI_NUMERICHOST:
            release.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    provider = make_provider(url="http://provider.invalid/v1", connect=SHORT)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        assert "accepted no connection within 0.25 seconds" in timed_out(provider)
    finally:
        release.set()


@pytest.mark.parametrize("script", [scripts.hang(), scripts.hang(after=0)], ids=["no headers", "headers only"])
def test_first_event_deadline(upstream: Upstream, make_provider: MakeProvider, script: Script) -> None:
    upstream.script = script
    assert timed_out(make_provider(first_token=SHORT)) == (
        "The provider compatible sent nothing of its answer within 0.25 seconds."
    )
    upstream.wait_for(lambda: upstream.disconnects == 1)


@pytest.mark.parametrize("part", ["headers", "body", "comments"])
def test_first_event_deadline_holds_against_drip(upstream: Upstream, make_provider: MakeProvider, part: str) -> None:
    upstream.script = scripts.drip(part)
    assert "sent nothing of its answer within 0.25 seconds" in timed_out(make_provider(first_token=SHORT))
    upstream.wait_for(lambda: upstream.disconnects == 1)


def test_first_event_deadline_holds_for_json(upstream: Upstream, make_provider: MakeProvider) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, "application/json")
        while True:
            await exchange.send(b" ")
            await exchange.pause(0.02)

    upstream.script = script
    assert "sent nothing of its answer within 0.25 seconds" in timed_out(make_provider(first_token=SHORT))


def test_idle_deadline(upstream: Upstream, make_provider: MakeProvider) -> None:
    upstream.script = scripts.hang(after=3)
    received = Received()
    assert timed_out(make_provider(idle=SHORT), received) == (
        "The provider compatible sent nothing for 0.25 seconds in the middle of its answer."
    )
    assert received.text == "word0 word1 word2 "
    upstream.wait_for(lambda: upstream.disconnects == 1)


@pytest.mark.parametrize("piece", [b": ping\n\n", b"a"], ids=["comments", "a line without end"])
def test_idle_deadline_holds_against_drip(upstream: Upstream, make_provider: MakeProvider, piece: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "word0 "}))
        while True:
            await exchange.send(piece)
            await exchange.pause(0.02)

    upstream.script = script
    assert "in the middle of its answer" in timed_out(make_provider(idle=SHORT))


def test_total_deadline(upstream: Upstream, make_provider: MakeProvider) -> None:
    upstream.script = scripts.words(count=10_000, pause=0.02)
    received = Received()
    assert timed_out(make_provider(total=0.5), received) == (
        "The provider compatible did not finish its answer within 0.5 seconds."
    )
    assert received.text.startswith("word0 word1 ")
    upstream.wait_for(lambda: upstream.disconnects == 1)


def test_total_deadline_before_first_event_deadline(upstream: Upstream, make_provider: MakeProvider) -> None:
    upstream.script = scripts.hang()
    assert "did not finish its answer within 0.25 seconds" in timed_out(make_provider(total=SHORT))


def test_events_without_text_extend_deadline(upstream: Upstream, make_provider: MakeProvider) -> None:
    """Events without text extend the first-event deadline."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for _ in range(10):
            await exchange.event(scripts.chunk({"reasoning_content": "hm "}))
            await exchange.pause(0.06)
        await exchange.event(scripts.chunk({"content": "thought"}, "stop"))
        await exchange.end()

    upstream.script = script
    assert read_answer(make_provider(first_token=0.3, idle=0.3)).text == "thought"


def test_slow_consumer_does_not_exceed_idle_deadline(upstream: Upstream, make_provider: MakeProvider) -> None:
    upstream.script = scripts.words(count=2, pause=0.05)
    pause = threading.Event()
    pieces = []
    with make_provider(idle=SHORT).stream(HELLO) as events:
        for event in events:
            pause.wait(SHORT * 1.5)
            pieces.append(event)
    assert len([piece for piece in pieces if isinstance(piece, TextDelta)]) == 2


def test_answer_without_end_marker_is_complete_after_finish_reason(
    upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "all"}, "stop"))
        await exchange.pause(None)

    monkeypatch.setattr("app.providers.response_reader.AFTER_FINISH_SECONDS", 0.1)
    upstream.script = script
    assert read_answer(make_provider()).text == "all"
    upstream.wait_for(lambda: upstream.disconnects == 1)


@pytest.mark.timeout(30)
def test_error_with_endless_body_is_reported(
    upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.errors import ProviderOverloaded

    async def script(exchange: Exchange) -> None:
        await exchange.head(429, "application/json", headers={"Retry-After": "3"})
        while True:
            await exchange.send(b" " * 10)
            await exchange.pause(0.02)

    monkeypatch.setattr("app.outbound.transport.ERROR_SECONDS", 0.1)
    upstream.script = script
    with pytest.raises(ProviderOverloaded) as caught:
        read_answer(make_provider(first_token=100, total=100))
    assert caught.value.retry_after == 3
    upstream.wait_for(lambda: upstream.disconnects == 1)


def test_server_that_does_not_read_times_out(make_provider: MakeProvider) -> None:
    """Sending the request is bounded in time too."""
    from app.providers.base import ChatMessage, ChatRequest

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        provider = make_provider(url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", first_token=SHORT)
        with pytest.raises(ProviderTimedOut, match=r"within 0\.25 seconds"):
            read_answer(provider, ChatRequest([ChatMessage("user", "x" * 20_000_000)]))
