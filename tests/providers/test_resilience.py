"""Asking again, and asking somebody else: only before the first event, and within one deadline for all of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from app.config import Provider as ProviderSettings
from app.errors import (
    ProviderBadAnswer,
    ProviderCircuitOpen,
    ProviderError,
    ProviderMisconfigured,
    ProviderOverloaded,
    ProviderTimedOut,
    ProviderUnreachable,
    SettingsError,
)
from app.providers.base import ChatRequest, Hangup, TextDelta
from app.providers.registry import ProviderRegistry
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.providers import test_deadlines
from tests.providers.conftest import HELLO

MakeRegistry = Callable[..., ProviderRegistry]

deaf = test_deadlines.deaf


@pytest.fixture
def second() -> Iterator[Upstream]:
    with Upstream(scripts.says(["from the second"])) as running:
        yield running


@pytest.fixture
def make_registry(upstream: Upstream, second: Upstream) -> MakeRegistry:
    """Makes a registry whose `compatible`, the default, is `upstream`, and whose `openrouter` is `second`."""

    def make(**variables: Any) -> ProviderRegistry:
        known: dict[str, Any] = {
            "AI_PROVIDER": "compatible",
            "OPENAI_BASE_URL": upstream.base_url,
            "OPENROUTER_API_KEY": "sk-router",
            "OPENROUTER_BASE_URL": second.base_url,
            "AI_FIRST_TOKEN_TIMEOUT": 5,
            "AI_TOTAL_TIMEOUT": 20,
        }
        return ProviderRegistry(ProviderSettings(**(known | variables)))

    return make


def ask(
    registry: ProviderRegistry,
    request: ChatRequest = HELLO,
    *,
    replaceable: bool = True,
    heard: list[str] | None = None,
) -> tuple[str, str]:
    """Who answered, and what; with `heard` given, what came before a failure is in it."""
    heard = [] if heard is None else heard
    with registry.stream(None, request, replaceable=replaceable) as (provider, events):
        for event in events:
            if isinstance(event, TextDelta):
                heard.append(event.text)
    return provider.name, "".join(heard)


def failure(registry: ProviderRegistry, request: ChatRequest = HELLO, **how: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(registry, request, **how)
    return caught.value


PASSING = [
    scripts.refusal(429),
    scripts.refusal(500),
    scripts.refusal(502),
    scripts.refusal(503),
    scripts.reset(),
    scripts.error_in_stream(503, after=0),
]


@pytest.mark.parametrize("script", PASSING, ids=["429", "500", "502", "503", "reset", "in the stream"])
def test_what_fails_in_passing_is_asked_again(upstream: Upstream, make_registry: MakeRegistry, script: Script) -> None:
    upstream.then(script)
    upstream.script = scripts.words(2)
    assert ask(make_registry()) == ("compatible", "word0 word1 ")
    assert len(upstream.requests) == 2
    upstream.wait_for(lambda: upstream.open_streams == 0)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (scripts.refusal(400), ProviderMisconfigured),
        (scripts.refusal(401), ProviderMisconfigured),
        (scripts.refusal(404), ProviderMisconfigured),
        (scripts.raw(b"data: {garbage\n\n"), ProviderBadAnswer),
        (scripts.status(200, "<html>a login page</html>"), ProviderBadAnswer),
        (scripts.hang(), ProviderTimedOut),
        (scripts.hang(after=0), ProviderTimedOut),
    ],
    ids=["400", "401", "404", "garbage", "html", "no headers", "no token"],
)
def test_what_would_be_the_same_again_is_not(
    upstream: Upstream, make_registry: MakeRegistry, script: Script, kind: type[ProviderError]
) -> None:
    upstream.script = script
    error = failure(make_registry(AI_FIRST_TOKEN_TIMEOUT=1.5))
    assert type(error) is kind
    assert "Given up" not in error.detail
    assert len(upstream.requests) == 1


def test_the_last_failure_is_told_with_what_was_tried(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.then(scripts.refusal(500), scripts.reset())
    upstream.script = scripts.refusal(503)
    error = failure(make_registry())
    assert type(error) is ProviderOverloaded
    assert error.detail.endswith("Given up after 3 tries of compatible.")
    assert str(error) == error.detail
    assert len(upstream.requests) == 3


def test_how_often_is_a_setting(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.refusal(500)
    error = failure(make_registry(AI_RETRIES=0))
    assert len(upstream.requests) == 1
    assert "Given up" not in error.detail
    failure(make_registry(AI_RETRIES=1))
    assert len(upstream.requests) == 3


def test_a_connection_that_nobody_accepts_is_tried_again(make_registry: MakeRegistry, deaf: int) -> None:
    url = f"http://127.0.0.1:{deaf}/v1"
    error = failure(make_registry(OPENAI_BASE_URL=url, AI_CONNECT_TIMEOUT=0.2))
    assert type(error) is ProviderTimedOut
    assert "accepted no connection" in error.detail
    assert error.detail.endswith("Given up after 3 tries of compatible.")


@pytest.mark.parametrize(
    "script",
    [scripts.cut(after=1), scripts.cut(after=1, how="reset"), scripts.error_in_stream(503, after=1)],
    ids=["cut", "reset", "error"],
)
def test_once_the_answer_has_begun_nobody_else_is_asked(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry, script: Script
) -> None:
    upstream.script = script
    heard: list[str] = []
    failure(make_registry(AI_FALLBACK="openrouter"), heard=heard)
    assert heard == ["word0 "]
    assert (len(upstream.requests), len(second.requests)) == (1, 0)


def test_as_long_as_the_provider_asks_for_it_is_left_alone(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.then(scripts.refusal(429, headers={"Retry-After": "1"}))
    ask(make_registry())
    first, again = upstream.requests
    assert again.at - first.at >= 1


def test_what_asks_for_more_time_than_is_left_is_told_at_once(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.refusal(429, headers={"Retry-After": "3000"})
    error = failure(make_registry(AI_TOTAL_TIMEOUT=1000))
    assert error.retry_after == 3000
    assert len(upstream.requests) == 1


def test_what_asks_for_more_time_than_the_tries_have_left_too(upstream: Upstream, make_registry: MakeRegistry) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.pause(1.2)
        await scripts.refusal(429, headers={"Retry-After": "1"})(exchange)

    upstream.script = script
    error = failure(make_registry(AI_TOTAL_TIMEOUT=2))
    assert type(error) is ProviderOverloaded
    assert error.retry_after == 1
    assert len(upstream.requests) == 1


def test_one_deadline_over_all_tries(upstream: Upstream, make_registry: MakeRegistry) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.pause(0.5)
        await scripts.refusal(503)(exchange)

    upstream.script = script
    error = failure(make_registry(AI_TOTAL_TIMEOUT=1.2, AI_RETRIES=10, AI_BREAKER_FAILURES=100))
    assert 1 <= len(upstream.requests) <= 3
    assert type(error) in (ProviderTimedOut, ProviderOverloaded)


def test_a_try_gets_what_the_others_have_left(upstream: Upstream, make_registry: MakeRegistry) -> None:
    """The second one trickles words: only the deadline over both ends it, and it may use what is left of that."""
    upstream.then(scripts.refusal(503, headers={"Retry-After": "1"}))
    upstream.script = scripts.words(10_000, pause=0.02)
    heard: list[str] = []
    error = failure(make_registry(AI_TOTAL_TIMEOUT=2), heard=heard)
    assert type(error) is ProviderTimedOut
    assert error.detail == "The provider compatible did not finish its answer within 2 seconds."
    assert 1 <= len(heard) <= 50, "one second's worth, not two"


@pytest.mark.timeout(30)
def test_hanging_up_ends_the_wait(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.refusal(503, headers={"Retry-After": "1000"})
    hangup = Hangup()
    registry = make_registry(AI_TOTAL_TIMEOUT=3000)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failure, registry, replace(HELLO, hangup=hangup))
        upstream.wait_for(lambda: len(upstream.requests) == 1 and upstream.open_streams == 0)
        hangup()
        assert type(waiting.result(20)) is ProviderOverloaded
    assert len(upstream.requests) == 1


@pytest.mark.timeout(30)
def test_who_has_hung_up_is_not_passed_on(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.hang()
    hangup = Hangup()
    registry = make_registry(AI_FALLBACK="openrouter", AI_BREAKER_FAILURES=1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(failure, registry, replace(HELLO, hangup=hangup))
        upstream.wait_for(lambda: upstream.open_streams == 1)
        hangup()
        assert type(waiting.result(20)) is ProviderUnreachable
    assert (len(upstream.requests), len(second.requests)) == (1, 0)
    upstream.script = scripts.words(1)
    assert ask(registry) == ("compatible", "word0 "), "it was not the provider's failure"


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        (scripts.refusal(500), 2),
        (scripts.reset(), 2),
        (scripts.refusal(401), 1),
        (scripts.raw(b"data: {garbage\n\n"), 1),
        (scripts.hang(), 1),
        (scripts.refusal(429, headers={"Retry-After": "10"}), 1),  # nobody waits so long while there is another one
    ],
    ids=["500", "reset", "401", "garbage", "silence", "wants 10 s"],
)
def test_the_fallback_answers_with_its_own_model(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry, script: Script, asked: int
) -> None:
    upstream.script = script
    registry = make_registry(AI_FALLBACK="openrouter", AI_RETRIES=1, AI_FIRST_TOKEN_TIMEOUT=2)
    assert ask(registry, replace(HELLO, model="of the first")) == ("openrouter", "from the second")
    assert len(upstream.requests) == asked
    assert [seen.body["model"] for seen in upstream.requests] == ["of the first"] * asked
    assert [seen.body["model"] for seen in second.requests] == ["openrouter/auto"]


def test_whom_the_request_names_is_not_replaced(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry
) -> None:
    upstream.script = scripts.refusal(401)
    error = failure(make_registry(AI_FALLBACK="openrouter"), replaceable=False)
    assert type(error) is ProviderMisconfigured
    assert second.requests == []


def test_the_demo_stands_in_only_where_it_is_listed(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.refusal(401)
    assert type(failure(make_registry())) is ProviderMisconfigured
    name, text = ask(make_registry(AI_FALLBACK="demo"))
    assert name == "demo"
    assert "without any AI" in text


def test_if_all_fail_each_is_named(upstream: Upstream, second: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script, second.script = scripts.refusal(500), scripts.refusal(401)
    registry = make_registry(AI_FALLBACK="compatible,openrouter,openrouter", AI_BREAKER_FAILURES=2)
    error = failure(registry)
    assert type(error) is ProviderMisconfigured
    assert error.detail.endswith("Given up after 2 tries of compatible, 1 try of openrouter.")
    error = failure(registry)
    assert error.detail.endswith("Given up after no try of compatible, 1 try of openrouter.")
    assert len(upstream.requests) == 2, "its circuit is open"


def test_with_no_time_left_the_fallback_is_not_asked(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry
) -> None:
    upstream.script = scripts.hang()
    error = failure(make_registry(AI_FALLBACK="openrouter", AI_TOTAL_TIMEOUT=0.4))
    assert type(error) is ProviderTimedOut
    assert second.requests == []


def test_who_was_given_too_little_time_is_not_blamed(
    upstream: Upstream, second: Upstream, make_registry: MakeRegistry
) -> None:
    upstream.script = second.script = scripts.hang()
    registry = make_registry(
        AI_FALLBACK="openrouter", AI_FIRST_TOKEN_TIMEOUT=2, AI_TOTAL_TIMEOUT=3, AI_BREAKER_FAILURES=1
    )
    assert type(failure(registry)) is ProviderTimedOut
    second.script = scripts.words(1)
    assert ask(registry) == ("openrouter", "word0 ")
    assert len(upstream.requests) == 1, "the first one had its time, and is left alone"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [("openrouter,nobody", "AI_FALLBACK"), ("openai", "AI_FALLBACK: this server has no openai; it has: compatible")],
)
def test_a_wrong_fallback_is_said_at_start(make_registry: MakeRegistry, value: str, complaint: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=complaint):
        make_registry(AI_FALLBACK=value, OPENAI_API_KEY="sk-x")


def test_a_circuit_that_opens_meanwhile_ends_the_tries(upstream: Upstream, make_registry: MakeRegistry) -> None:
    upstream.script = scripts.refusal(500)
    registry = make_registry(AI_RETRIES=5, AI_BREAKER_FAILURES=2)
    assert type(failure(registry)) is ProviderBadAnswer
    assert len(upstream.requests) == 2
    assert type(failure(registry)) is ProviderCircuitOpen
    assert len(upstream.requests) == 2
