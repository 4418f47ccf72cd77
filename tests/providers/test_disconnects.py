"""Leaving a stream early closes its connection; reading to the end keeps it for the next request."""

import gc
from collections.abc import Callable, Iterator

import pytest

from app.providers.base import Completed, StreamEvent, TextDelta
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.exchange import Exchange
from tests.fakes.upstream import Upstream
from tests.providers.conftest import HELLO, MakeProvider, read_answer


class Gone(BaseException):
    """A BaseException, as GreenletExit is."""


def leave_at_once(provider: ChatCompletions) -> None:
    with provider.stream(HELLO):
        pass


def leave_after_a_word(provider: ChatCompletions) -> None:
    with provider.stream(HELLO) as events:
        assert isinstance(next(events), TextDelta)


def leave_by_exception(provider: ChatCompletions) -> None:
    with pytest.raises(Gone), provider.stream(HELLO) as events:  # noqa: PT012
        next(events)
        raise Gone


def leave_by_closing_a_generator(provider: ChatCompletions) -> None:
    def relay() -> Iterator[StreamEvent]:
        with provider.stream(HELLO) as events:
            yield from events

    relaying = relay()
    next(relaying)
    relaying.close()  # type: ignore[attr-defined]  # it is a generator


def leave_by_collecting_a_generator(provider: ChatCompletions) -> None:
    def relay() -> Iterator[StreamEvent]:
        with provider.stream(HELLO) as events:
            yield from events

    relaying = relay()
    next(relaying)
    del relaying
    gc.collect()


@pytest.mark.parametrize(
    "leave",
    [
        leave_at_once,
        leave_after_a_word,
        leave_by_exception,
        leave_by_closing_a_generator,
        leave_by_collecting_a_generator,
    ],
)
def test_leaving_early_closes_the_connection(
    upstream: Upstream, provider: ChatCompletions, leave: Callable[[ChatCompletions], None]
) -> None:
    upstream.script = scripts.words(count=100_000, pause=0.01)
    leave(provider)
    upstream.wait_for(lambda: upstream.disconnects == 1 and upstream.open_connections == 0)


@pytest.mark.timeout(30)
def test_leaving_does_not_wait(upstream: Upstream, provider: ChatCompletions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.outbound.transport.LINGER_SECONDS", 100)
    upstream.script = scripts.hang(after=1)
    leave_after_a_word(provider)
    upstream.wait_for(lambda: upstream.disconnects == 1)


def test_endless_stream_is_cut_at_max_length(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.endless(size=7_777)
    received = read_answer(provider)
    assert received.end == Completed("length", "fake-model")
    assert len(received.text) == 1_000_000
    upstream.wait_for(lambda: upstream.disconnects == 1)


def test_stream_is_empty_after_leaving(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.words(count=10)
    with provider.stream(HELLO) as events:
        next(events)
    assert list(events) == []


def test_connection_is_reused_after_complete_response(upstream: Upstream, provider: ChatCompletions) -> None:
    for script in (scripts.words(), scripts.answer(), scripts.recorded("openai_text", size=1), scripts.api_error(500)):
        upstream.queue_scripts(script)
    for _ in range(3):
        read_answer(provider)
    with pytest.raises(Exception, match="500"):
        read_answer(provider)
    read_answer(provider)
    assert [seen.connection for seen in upstream.requests] == [1] * 5
    assert upstream.disconnects == 0


def test_closed_idle_connection_is_replaced(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.raw(
        b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    read_answer(provider)
    upstream.drop_idle()
    upstream.wait_for(lambda: upstream.open_connections == 0)
    assert read_answer(provider).text == "a"
    assert upstream.connections == 2


def test_late_end_of_body_is_not_awaited(
    upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After [DONE] without an end of the body the answer is complete, and the connection is closed."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "all"}, "stop"))
        await exchange.send(scripts.DONE)
        await exchange.pause(None)

    upstream.script = script
    assert read_answer(make_provider()).text == "all"
    upstream.wait_for(lambda: upstream.disconnects == 1)
