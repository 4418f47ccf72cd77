"""The circuit of a provider: opens after failures in a row, lets one through to find out, and says what it is."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from app.config import Provider as ProviderSettings
from app.errors import ProviderCircuitOpen, ProviderError
from app.providers.base import ChatRequest, Hangup, TextDelta
from app.providers.registry import ProviderRegistry
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import here
from tests.providers.conftest import HELLO

CALLERS = 20
OPEN_SECONDS = 1.0  # so that a busy machine asks again within them


@pytest.fixture
def make_registry(upstream: Upstream) -> Callable[..., ProviderRegistry]:
    def make(**variables: Any) -> ProviderRegistry:
        known: dict[str, Any] = {
            "AI_PROVIDER": "compatible",
            "OPENAI_BASE_URL": upstream.base_url,
            "AI_RETRIES": 0,
            "AI_BREAKER_FAILURES": 3,
            "AI_BREAKER_SECONDS": 1000,
            "AI_FIRST_TOKEN_TIMEOUT": 10,
        }
        return ProviderRegistry(ProviderSettings(**(known | variables)))

    return make


@pytest.fixture
def registry(make_registry: Callable[..., ProviderRegistry]) -> ProviderRegistry:
    return make_registry()


@pytest.fixture
def brief(make_registry: Callable[..., ProviderRegistry]) -> ProviderRegistry:
    """Its circuit is open for a moment only."""
    return make_registry(AI_BREAKER_SECONDS=OPEN_SECONDS)


def ask(registry: ProviderRegistry, request: ChatRequest = HELLO) -> str:
    """The answer, or the code of the failure."""
    try:
        with registry.stream(None, request) as (_, events):
            return "".join(event.text for event in events if isinstance(event, TextDelta))
    except ProviderError as error:
        return error.code


def open_up(registry: ProviderRegistry, upstream: Upstream) -> None:
    """Fail until the circuit is open, and then for as long as it stays so."""
    upstream.script = scripts.refusal(500)
    assert [ask(registry) for _ in range(4)] == ["provider_bad_answer"] * 3 + ["provider_circuit_open"]
    threading.Event().wait(OPEN_SECONDS * 1.5)  # the point is that time passes
    upstream.requests.clear()


def state() -> float:
    return here().value("ai_circuit_state", provider="compatible")


FAILURES = [
    scripts.refusal(500),
    scripts.refusal(503),
    scripts.reset(),
    scripts.raw(b"data: {garbage\n\n"),
    scripts.hang(),
    scripts.cut(after=1),
]


@pytest.mark.parametrize("script", FAILURES, ids=["500", "503", "reset", "garbage", "silence", "broken answer"])
def test_failures_in_a_row_open_it(
    upstream: Upstream, make_registry: Callable[..., ProviderRegistry], script: Script
) -> None:
    registry = make_registry(AI_FIRST_TOKEN_TIMEOUT=0.3)
    upstream.script = script
    assert "provider_circuit_open" not in [ask(registry) for _ in range(3)]
    upstream.script = scripts.words(1)
    with pytest.raises(ProviderCircuitOpen) as caught, registry.stream(None, HELLO):
        pass
    assert len(upstream.requests) == 3, "it is left alone"
    assert caught.value.retry_after is not None
    assert 900 < caught.value.retry_after <= 1000
    assert "compatible" in caught.value.detail


def test_an_answer_in_between_begins_the_count_anew(upstream: Upstream, registry: ProviderRegistry) -> None:
    bad = scripts.refusal(500)
    upstream.then(bad, bad, scripts.words(1), bad, bad, scripts.words(1), bad, bad, bad)
    answers = [ask(registry) for _ in range(10)]
    assert answers.count("word0 ") == 2
    assert answers[-2:] == ["provider_bad_answer", "provider_circuit_open"]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_is_wrong_with_the_request_opens_nothing(
    upstream: Upstream, registry: ProviderRegistry, status: int
) -> None:
    upstream.script = scripts.refusal(status)
    assert [ask(registry) for _ in range(6)] == ["provider_misconfigured"] * 6
    upstream.script = scripts.error_in_stream(status, after=1)
    assert [ask(registry) for _ in range(6)] == ["provider_misconfigured"] * 6


def test_it_was_we_who_hung_up(upstream: Upstream, registry: ProviderRegistry) -> None:
    for script in (scripts.hang(), scripts.hang(after=1)):
        upstream.script = script
        for _ in range(4):
            hangup = Hangup()
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(ask, registry, replace(HELLO, hangup=hangup))
                upstream.wait_for(lambda: upstream.open_streams == 1)
                hangup()
                assert waiting.result(20) == "provider_unreachable"
            upstream.wait_for(lambda: upstream.open_streams == 0)


def test_who_talks_for_too_long_is_not_left_alone(
    upstream: Upstream, make_registry: Callable[..., ProviderRegistry]
) -> None:
    registry = make_registry(AI_TOTAL_TIMEOUT=0.3, AI_BREAKER_FAILURES=1)
    upstream.script = scripts.words(1000, pause=0.02)
    assert [ask(registry), ask(registry)] == ["provider_timeout"] * 2


class Gate:
    """A script that answers once it is opened."""

    def __init__(self, script: Script) -> None:
        self._open = threading.Event()
        self._script = script

    def open(self) -> None:
        self._open.set()

    async def __call__(self, exchange: Exchange) -> None:
        while not self._open.is_set():
            await exchange.pause(0.01)
        await self._script(exchange)


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CALLERS) as pool:
        yield pool


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("script", "answer", "then"),
    [(scripts.words(1), "word0 ", "word0 "), (scripts.refusal(500), "provider_bad_answer", "provider_circuit_open")],
    ids=["closes", "opens again"],
)
def test_one_of_many_finds_out_for_all(
    upstream: Upstream,
    brief: ProviderRegistry,
    crowd: ThreadPoolExecutor,
    script: Script,
    answer: str,
    then: str,
) -> None:
    open_up(brief, upstream)
    gate = Gate(script)
    upstream.script = gate
    together = threading.Barrier(CALLERS, timeout=20)
    refused = threading.Semaphore(0)

    def call() -> str:
        together.wait()
        said = ask(brief)
        refused.release()
        return said

    calls = [crowd.submit(call) for _ in range(CALLERS)]
    for _ in range(CALLERS - 1):
        assert refused.acquire(timeout=20), "more than one is waiting for the provider"
    assert state() == 1
    gate.open()
    said = sorted(one.result(20) for one in calls)
    assert said == sorted([answer] + ["provider_circuit_open"] * (CALLERS - 1))
    assert len(upstream.requests) == 1
    assert ask(brief) == then


def test_a_refusal_closes_it(upstream: Upstream, brief: ProviderRegistry) -> None:
    open_up(brief, upstream)
    upstream.script = scripts.refusal(401)
    assert [ask(brief), ask(brief)] == ["provider_misconfigured"] * 2


@pytest.mark.timeout(30)
def test_who_is_hung_up_on_while_finding_out_leaves_it_to_the_next(upstream: Upstream, brief: ProviderRegistry) -> None:
    open_up(brief, upstream)
    upstream.script = scripts.hang()
    hangup = Hangup()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, brief, replace(HELLO, hangup=hangup))
        upstream.wait_for(lambda: upstream.open_streams == 1)
        assert ask(brief) == "provider_circuit_open"
        hangup()
        assert waiting.result(20) == "provider_unreachable"
    upstream.script = scripts.words(1)
    assert ask(brief) == "word0 "


def test_what_was_asked_before_it_opened_changes_nothing(
    upstream: Upstream, make_registry: Callable[..., ProviderRegistry]
) -> None:
    """Long answers go on beside an open circuit, and their ends are old news."""
    registry = make_registry()
    gates = [Gate(scripts.words(1)), Gate(scripts.refusal(500))]
    upstream.then(*gates)
    with ThreadPoolExecutor(2) as pool:
        long = [pool.submit(ask, registry) for _ in gates]
        upstream.wait_for(lambda: upstream.open_streams == 2)
        upstream.script = scripts.refusal(500)
        assert [ask(registry) for _ in range(4)][-1] == "provider_circuit_open"
        for gate in gates:
            gate.open()
        assert {one.result(20) for one in long} == {"word0 ", "provider_bad_answer"}
    assert ask(registry) == "provider_circuit_open"


def test_each_change_is_shown_and_logged(
    upstream: Upstream, brief: ProviderRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parley.providers")
    assert state() == 0
    open_up(brief, upstream)
    assert state() == 2
    upstream.script = scripts.words(1)
    ask(brief)
    assert state() == 0
    changes = [(record.levelname, record.message) for record in caplog.records if "circuit" in record.message]
    assert changes == [
        ("WARNING", "circuit of compatible: open"),
        ("INFO", "circuit of compatible: half_open"),
        ("INFO", "circuit of compatible: closed"),
    ]


@pytest.mark.process
def test_under_gevent(upstream: Upstream) -> None:
    """One greenlet finds out for all, and a wait of a thousand seconds ends at once when hung up."""
    upstream.then(scripts.refusal(500), scripts.words(1, first=1), scripts.words(1))
    upstream.script = scripts.refusal(503, headers={"Retry-After": "1000"})
    command = [sys.executable, "-m", "tests.providers.gevent_circuit", upstream.base_url, str(CALLERS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "one by one": ["provider_bad_answer", "provider_circuit_open", "word0 ", "provider_overloaded"],
        "together": {"word0 ": 1, "provider_circuit_open": CALLERS - 1},
    }
    assert len(upstream.requests) == 4
