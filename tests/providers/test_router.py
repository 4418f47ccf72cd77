"""Retries and fallback: only before the first event, and within one total deadline."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from app.config import Provider as ProviderSettings
from app.errors import (
    ProviderCircuitOpen,
    ProviderError,
    ProviderMisconfigured,
    ProviderOverloaded,
    ProviderProtocolError,
    ProviderTimedOut,
    ProviderUnreachable,
    SettingsError,
)
from app.outbound.cancellation import CancelToken
from app.providers.base import ChatRequest, TextDelta
from app.providers.registry import ProviderRegistry
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers import test_deadlines
from tests.providers.conftest import HELLO

MakeRegistry = Callable[..., ProviderRegistry]

port_with_full_backlog = test_deadlines.port_with_full_backlog


@pytest.fixture
def second() -> Iterator[Upstream]:
    with Upstream(scripts.stream_pieces(["from the fallback"])) as running:
        yield running


@pytest.fixture
def make_registry(upstream: Upstream, second: Upstream) -> MakeRegistry:
    """Return a function that makes a registry: `compatible`, the default, is `upstream`, `openrouter` is `second`."""

    def make(**variables: Any) -> ProviderRegistry:
        defaults: dict[str, Any] = {
            "AI_PROVIDER": "compatible",
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENROUTER_API_KEY": "sk-router",
            "OPENROUTER_BASE_URL": second.base_url,
            "AI_FIRST_TOKEN_TIMEOUT": 5,
            "AI_TOTAL_TIMEOUT": 20,
        }
        return ProviderRegistry(ProviderSettings(**(defaults | variables)))

    return make


def ask(
    registry: ProviderRegistry,
    request: ChatRequest = HELLO,
    *,
    replaceable: bool = True,
    received: list[str] | None = None,
) -> tuple[str, str]:
    """Return the provider that answered and its text. A given `received` holds the pieces before a failure."""
    received = [] if received is None else received
    with registry.stream(None, request, replaceable=replaceable) as (provider, events):
        for event in events:
            if isinstance(event, TextDelta):
                received.append(event.text)
    return provider.name, "".join(received)


def failure(registry: ProviderRegistry, request: ChatRequest = HELLO, **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(registry, request, **options)
    return caught.value


TRANSIENT = [
    scripts.api_error(429),
    scripts.api_error(500),
    scripts.api_error(502),
    scripts.api_error(503),
    scripts.reset(),
    scripts.error_in_stream(503, after=0),
]


@pytest.mark.parametrize("script", TRANSIENT, ids=["429", "500", "502", "503", "reset", "in the stream"])
def test_transient_failure_is_retried(upstream: Upstream, make_registry: MakeRegistry, script: Script) -> None:
    upstream.queue_scripts(script)
    upstream.script = scripts.words(2)
    assert ask(make_registry()) == ("compatible", "word0 word1 ")
    assert len(upstream.requests) == 2
    upstream.wait_for(lambda: upstream.open_streams == 0)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (scripts.api_error(400), ProviderMisconfigured),
        (scripts.api_error(401), ProviderMisconfigured),
        (scripts.api_error(404), ProviderMisconfigured),
        (scripts.raw(b"data: {garbage\n\n"), ProviderProtocolError),
        (scripts.status(200, "<html>a login page</html>"), ProviderProtocolError),
        (scripts.hang(), ProviderTimedOut),
        (scripts.hang(after=0), ProviderTimedOut),
    ],
    ids=["400", "401", "404", "garbage", "html", "no headers", "no token"],
)
def test_permanent_failure_is_not_retried(
    upstream: Upstream, make_registry: MakeRegistry, script: Script, kind: type[ProviderError]
) -> None:
    upstream.script = script
    error = failure(make_registry(AI_FIRST_TOKEN_TIMEOUT=1.5))
    assert type(error) is kind
    assert "Given up" not in error.detail
    assert len(upstream.requests) == 1


def test_last_failure_lists_tries(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.queue_scripts(scripts.api_error(500), scripts.reset())
    upstream.script = scripts.api_error(503)
    error = failure(make_registry())
    assert type(error) is ProviderOverloaded
    assert error.detail.endswith("Given up after 3 tries of compatible.")
    assert str(error) == error.detail
    assert len(upstream.requests) == 3


def test_number_of_retries_is_a_setting(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.api_error(500)
    error = failure(make_registry(AI_RETRIES=0))
    assert len(upstream.requests) == 1
    assert "Given up" not in error.detail
    failure(make_registry(AI_RETRIES=1))
    assert len(upstream.requests) == 3


def test_connect_timeout_is_retried(make_registry: MakeRegistry, port_with_full_backlog: int) -> None:
    url = f"http://127.0.0.1:{port_with_full_backlog}/v1"
    error = failure(make_registry(OPENAI_BASE_URL=url, AI_CONNECT_TIMEOUT=0.2))
    assert type(error) is ProviderTimedOut
    assert "accepted no connection" in error.detail
    assert error.detail.endswith("Given up after 3 tries of compatible.")


@pytest.mark.parametrize(
    "script",
    [scripts.cut(after=1), scripts.cut(after=1, how="reset"), scripts.error_in_stream(503, after=1)],
    ids=["cut", "reset", "error"],
)
def test_no_retry_or_fallback_after_first_event(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry, script: Script
) -> None:
    upstream.script = script
    received: list[str] = []
    failure(make_registry(AI_FALLBACK="openrouter"), received=received)
    assert received == ["word0 "]
    assert (len(upstream.requests), len(second.requests)) == (1, 0)


def test_retry_waits_for_retry_after(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.queue_scripts(scripts.api_error(429, headers={"Retry-After": "1"}))
    ask(make_registry())
    first, retry = upstream.requests
    assert retry.at - first.at >= 1


def test_retry_after_above_total_deadline_fails_at_once(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.api_error(429, headers={"Retry-After": "3000"})
    error = failure(make_registry(AI_TOTAL_TIMEOUT=1000))
    assert error.retry_after == 3000
    assert len(upstream.requests) == 1


def test_retry_after_above_remaining_time_fails_at_once(upstream: Upstream, make_registry: MakeRegistry) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.pause(1.2)
        await scripts.api_error(429, headers={"Retry-After": "1"})(exchange)

    upstream.script = script
    error = failure(make_registry(AI_TOTAL_TIMEOUT=2))
    assert type(error) is ProviderOverloaded
    assert error.retry_after == 1
    assert len(upstream.requests) == 1


def test_total_deadline_covers_all_tries(upstream: Upstream, make_registry: MakeRegistry) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.pause(0.5)
        await scripts.api_error(503)(exchange)

    upstream.script = script
    error = failure(make_registry(AI_TOTAL_TIMEOUT=1.2, AI_RETRIES=10, AI_CIRCUIT_FAILURES=100))
    assert 1 <= len(upstream.requests) <= 3
    assert type(error) in (ProviderTimedOut, ProviderOverloaded)


def test_retry_gets_remaining_time(upstream: Upstream, make_registry: MakeRegistry) -> None:
    """The second try trickles words: only the total deadline over both tries ends it."""
    upstream.queue_scripts(scripts.api_error(503, headers={"Retry-After": "1"}))
    upstream.script = scripts.words(10_000, pause=0.02)
    received: list[str] = []
    error = failure(make_registry(AI_TOTAL_TIMEOUT=2), received=received)
    assert type(error) is ProviderTimedOut
    assert error.detail == "The provider compatible did not finish its answer within 2 seconds."
    assert 1 <= len(received) <= 50, "more than the remaining second"


@pytest.mark.timeout(30)
def test_cancel_ends_wait_before_retry(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.api_error(503, headers={"Retry-After": "1000"})
    cancel_token = CancelToken()
    registry = make_registry(AI_TOTAL_TIMEOUT=3000)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failure, registry, replace(HELLO, cancel_token=cancel_token))
        upstream.wait_for(lambda: len(upstream.requests) == 1 and upstream.open_streams == 0)
        cancel_token.cancel()
        assert type(waiting.result(20)) is ProviderOverloaded
    assert len(upstream.requests) == 1


@pytest.mark.timeout(30)
def test_cancelled_request_gets_no_fallback(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.hang()
    cancel_token = CancelToken()
    registry = make_registry(AI_FALLBACK="openrouter", AI_CIRCUIT_FAILURES=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failure, registry, replace(HELLO, cancel_token=cancel_token))
        upstream.wait_for(lambda: upstream.open_streams == 1)
        cancel_token.cancel()
        assert type(waiting.result(20)) is ProviderUnreachable
    assert (len(upstream.requests), len(second.requests)) == (1, 0)
    upstream.script = scripts.words(1)
    assert ask(registry) == ("compatible", "word0 "), "a cancelled request opened the circuit"


@pytest.mark.parametrize(
    ("script", "tries"),
    [
        (scripts.api_error(500), 2),
        (scripts.reset(), 2),
        (scripts.api_error(401), 1),
        (scripts.raw(b"data: {garbage\n\n"), 1),
        (scripts.hang(), 1),
        (scripts.api_error(429, headers={"Retry-After": "10"}), 1),  # longer than the wait before a fallback
    ],
    ids=["500", "reset", "401", "garbage", "silence", "wants 10 s"],
)
def test_fallback_answers_with_its_own_model(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry, script: Script, tries: int
) -> None:
    upstream.script = script
    registry = make_registry(AI_FALLBACK="openrouter", AI_RETRIES=1, AI_FIRST_TOKEN_TIMEOUT=2)
    assert ask(registry, replace(HELLO, model="of the first")) == ("openrouter", "from the fallback")
    assert len(upstream.requests) == tries
    assert [seen.body["model"] for seen in upstream.requests] == ["of the first"] * tries
    assert [seen.body["model"] for seen in second.requests] == ["openrouter/auto"]


def test_explicit_provider_gets_no_fallback(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.api_error(401)
    error = failure(make_registry(AI_FALLBACK="openrouter"), replaceable=False)
    assert type(error) is ProviderMisconfigured
    assert second.requests == []


def test_demo_is_fallback_only_if_listed(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.api_error(401)
    assert type(failure(make_registry())) is ProviderMisconfigured
    name, text = ask(make_registry(AI_FALLBACK="demo"))
    assert name == "demo"
    assert "without any AI" in text


def test_failure_of_all_names_each(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script, second.script = scripts.api_error(500), scripts.api_error(401)
    registry = make_registry(AI_FALLBACK="compatible,openrouter,openrouter", AI_CIRCUIT_FAILURES=2)
    error = failure(registry)
    assert type(error) is ProviderMisconfigured
    assert error.detail.endswith("Given up after 2 tries of compatible, 1 try of openrouter.")
    error = failure(registry)
    assert error.detail.endswith("Given up after no try of compatible, 1 try of openrouter.")
    assert len(upstream.requests) == 2, "its circuit is open"


def test_no_fallback_after_total_deadline(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.hang()
    error = failure(make_registry(AI_FALLBACK="openrouter", AI_TOTAL_TIMEOUT=0.4))
    assert type(error) is ProviderTimedOut
    assert second.requests == []


def test_timeout_with_too_little_time_does_not_count(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry
) -> None:
    upstream.script = second.script = scripts.hang()
    registry = make_registry(
        AI_FALLBACK="openrouter", AI_FIRST_TOKEN_TIMEOUT=2, AI_TOTAL_TIMEOUT=3, AI_CIRCUIT_FAILURES=1
    )
    assert type(failure(registry)) is ProviderTimedOut
    second.script = scripts.words(1)
    assert ask(registry) == ("openrouter", "word0 ")
    assert len(upstream.requests) == 1, "the circuit of the first provider is open"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [("openrouter,unknown", "AI_FALLBACK"), ("openai", "AI_FALLBACK: this server has no openai; it has: compatible")],
)
def test_unknown_fallback_is_a_settings_error(make_registry: MakeRegistry, value: str, complaint: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=complaint):
        make_registry(AI_FALLBACK=value, OPENAI_API_KEY="sk-x")


def test_opening_circuit_ends_retries(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.api_error(500)
    registry = make_registry(AI_RETRIES=5, AI_CIRCUIT_FAILURES=2)
    assert type(failure(registry)) is ProviderProtocolError
    assert len(upstream.requests) == 2
    assert type(failure(registry)) is ProviderCircuitOpen
    assert len(upstream.requests) == 2
