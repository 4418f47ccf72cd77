"""Whoever stops reading stops the provider; whoever reads to the end leaves a connection for the next."""

import gc
from collections.abc import Callable, Iterator

import pytest

from app.providers.base import Completed, StreamEvent, TextDelta
from app.providers.chat_completions import ChatCompletions
from tests.fakes import scripts
from tests.fakes.exchange import Exchange
from tests.fakes.upstream import Upstream
from tests.providers.conftest import HELLO, MakeProvider, listen


class Gone(BaseException):
    """Neither an Exception nor ours, as GreenletExit is."""


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


def leave_by_forgetting_a_generator(provider: ChatCompletions) -> None:
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
        leave_by_forgetting_a_generator,
    ],
)
def test_the_provider_sees_its_reader_leave(
    upstream: Upstream, provider: ChatCompletions, leave: Callable[[ChatCompletions], None]
) -> None:
    upstream.script = scripts.words(count=100_000, pause=0.01)
    leave(provider)
    upstream.wait_for(lambda: upstream.disconnects == 1 and upstream.open_connections == 0)


@pytest.mark.timeout(30)
def test_leaving_waits_for_nothing(
    upstream: Upstream, provider: ChatCompletions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.providers.transport.LINGER_SECONDS", 100)
    upstream.script = scripts.hang(after=1)
    leave_after_a_word(provider)
    upstream.wait_for(lambda: upstream.disconnects == 1)


def test_a_stream_that_never_ends_is_cut_at_its_length(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.endless(size=7_777)
    heard = listen(provider)
    assert heard.end == Completed("length", "fake-model")
    assert len(heard.text) == 1_000_000
    upstream.wait_for(lambda: upstream.disconnects == 1)


def test_after_leaving_nothing_more_comes(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.words(count=10)
    with provider.stream(HELLO) as events:
        next(events)
    assert list(events) == []


def test_a_connection_read_to_its_end_is_used_again(upstream: Upstream, provider: ChatCompletions) -> None:
    for script in (scripts.words(), scripts.answer(), scripts.recorded("openai_text", size=1), scripts.refusal(500)):
        upstream.then(script)
    for _ in range(3):
        listen(provider)
    with pytest.raises(Exception, match="500"):
        listen(provider)
    listen(provider)
    assert [seen.connection for seen in upstream.requests] == [1] * 5
    assert upstream.disconnects == 0


def test_a_connection_that_the_provider_closed_is_replaced(upstream: Upstream, provider: ChatCompletions) -> None:
    upstream.script = scripts.raw(
        b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    listen(provider)
    upstream.drop_idle()
    upstream.wait_for(lambda: upstream.open_connections == 0)
    assert listen(provider).text == "a"
    assert upstream.connections == 2


def test_a_late_end_is_not_waited_for(
    upstream: Upstream, make_provider: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[DONE] without the end of the body: the answer is told at once, the connection is not kept."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.event(scripts.chunk({"content": "all"}, "stop"))
        await exchange.send(scripts.DONE)
        await exchange.pause(None)

    upstream.script = script
    assert listen(make_provider()).text == "all"
    upstream.wait_for(lambda: upstream.disconnects == 1)
