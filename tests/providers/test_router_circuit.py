"""The circuit of a provider's model: opens after failures in a row, allows one trial, is shown in metrics and logs."""

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
from app.outbound.cancellation import CancelToken
from app.providers.base import ChatRequest, TextDelta
from app.providers.circuits import MAX_MODELS
from app.providers.registry import ProviderRegistry
from tests.fakes import scripts
from tests.fakes.exchange import Exchange, Script
from tests.fakes.upstream import Upstream
from tests.metrics.scrape import here
from tests.providers.conftest import HELLO

CALLERS = 20
OPEN_SECONDS = 1.0  # long enough for a busy machine


@pytest.fixture
def make_registry(upstream: Upstream) -> Callable[..., ProviderRegistry]:
    def make(**variables: Any) -> ProviderRegistry:
        defaults: dict[str, Any] = {
            "AI_PROVIDER": "compatible",
            "OPENAI_BASE_URL": upstream.base_url,
            "AI_RETRIES": 0,
            "AI_CIRCUIT_FAILURES": 3,
            "AI_CIRCUIT_OPEN_SECONDS": 1000,
            "AI_FIRST_TOKEN_TIMEOUT": 10,
        }
        return ProviderRegistry(ProviderSettings(**(defaults | variables)))

    return make


@pytest.fixture
def registry(make_registry: Callable[..., ProviderRegistry]) -> ProviderRegistry:
    return make_registry()


@pytest.fixture
def short_open(make_registry: Callable[..., ProviderRegistry]) -> ProviderRegistry:
    """Return a registry whose circuits are open only for a moment."""
    return make_registry(AI_CIRCUIT_OPEN_SECONDS=OPEN_SECONDS)


def ask(registry: ProviderRegistry, request: ChatRequest = HELLO) -> str:
    """Return the text of the answer, or the code of the failure."""
    try:
        with registry.stream(None, request) as (_, events):
            return "".join(event.text for event in events if isinstance(event, TextDelta))
    except ProviderError as error:
        return error.code


def open_up(registry: ProviderRegistry, upstream: Upstream) -> None:
    """Fail until the circuit opens, and wait until a trial is allowed."""
    upstream.script = scripts.api_error(500)
    assert [ask(registry) for _ in range(4)] == ["provider_bad_answer"] * 3 + ["provider_circuit_open"]
    threading.Event().wait(OPEN_SECONDS * 1.5)
    upstream.requests.clear()


def state(**labels: str) -> float:
    return here().value("ai_circuit_state", provider="compatible", **labels)


FAILURES = [
    scripts.api_error(500),
    scripts.api_error(503),
    scripts.reset(),
    scripts.raw(b"data: {garbage\n\n"),
    scripts.hang(),
    scripts.cut(after=1),
]


@pytest.mark.parametrize("script", FAILURES, ids=["500", "503", "reset", "garbage", "silence", "broken answer"])
def test_failures_in_a_row_open_circuit(
    upstream: Upstream, make_registry: Callable[..., ProviderRegistry], script: Script
) -> None:
    registry = make_registry(AI_FIRST_TOKEN_TIMEOUT=0.3)
    upstream.script = script
    assert "provider_circuit_open" not in [ask(registry) for _ in range(3)]
    upstream.script = scripts.words(1)
    with pytest.raises(ProviderCircuitOpen) as caught, registry.stream(None, HELLO):
        pass
    assert len(upstream.requests) == 3, "the open circuit let a request through"
    assert caught.value.retry_after is not None
    assert 900 < caught.value.retry_after <= 1000
    assert "compatible" in caught.value.detail


def test_success_resets_failure_count(upstream: Upstream, registry: ProviderRegistry) -> None:
    bad = scripts.api_error(500)
    upstream.queue_scripts(bad, bad, scripts.words(1), bad, bad, scripts.words(1), bad, bad, bad)
    answers = [ask(registry) for _ in range(10)]
    assert answers.count("word0 ") == 2
    assert answers[-2:] == ["provider_bad_answer", "provider_circuit_open"]


@pytest.mark.parametrize("status", [400, 401, 404])
def test_rejected_requests_do_not_open_circuit(upstream: Upstream, registry: ProviderRegistry, status: int) -> None:
    upstream.script = scripts.api_error(status)
    assert [ask(registry) for _ in range(6)] == ["provider_misconfigured"] * 6
    upstream.script = scripts.error_in_stream(status, after=1)
    assert [ask(registry) for _ in range(6)] == ["provider_misconfigured"] * 6


def test_cancelled_requests_do_not_open_circuit(upstream: Upstream, registry: ProviderRegistry) -> None:
    for script in (scripts.hang(), scripts.hang(after=1)):
        upstream.script = script
        for _ in range(4):
            cancel_token = CancelToken()
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(ask, registry, replace(HELLO, cancel_token=cancel_token))
                upstream.wait_for(lambda: upstream.open_streams == 1)
                cancel_token.cancel()
                assert waiting.result(20) == "provider_unreachable"
            upstream.wait_for(lambda: upstream.open_streams == 0)


def test_total_timeout_of_active_stream_does_not_open_circuit(
    upstream: Upstream, make_registry: Callable[..., ProviderRegistry]
) -> None:
    registry = make_registry(AI_TOTAL_TIMEOUT=0.3, AI_CIRCUIT_FAILURES=1)
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
    ("script", "answer", "next_answer"),
    [(scripts.words(1), "word0 ", "word0 "), (scripts.api_error(500), "provider_bad_answer", "provider_circuit_open")],
    ids=["closes", "opens again"],
)
def test_only_one_trial_among_concurrent_calls(
    upstream: Upstream,
    short_open: ProviderRegistry,
    crowd: ThreadPoolExecutor,
    script: Script,
    answer: str,
    next_answer: str,
) -> None:
    open_up(short_open, upstream)
    gate = Gate(script)
    upstream.script = gate
    barrier = threading.Barrier(CALLERS, timeout=20)
    refused = threading.Semaphore(0)

    def call() -> str:
        barrier.wait()
        result = ask(short_open)
        refused.release()
        return result

    calls = [crowd.submit(call) for _ in range(CALLERS)]
    for _ in range(CALLERS - 1):
        assert refused.acquire(timeout=20), "more than one trial request"
    assert state() == 1
    gate.open()
    results = sorted(call.result(20) for call in calls)
    assert results == sorted([answer] + ["provider_circuit_open"] * (CALLERS - 1))
    assert len(upstream.requests) == 1
    assert ask(short_open) == next_answer


def test_rejected_trial_closes_circuit(upstream: Upstream, short_open: ProviderRegistry) -> None:
    open_up(short_open, upstream)
    upstream.script = scripts.api_error(401)
    assert [ask(short_open), ask(short_open)] == ["provider_misconfigured"] * 2


@pytest.mark.timeout(30)
def test_cancelled_trial_allows_next_trial(upstream: Upstream, short_open: ProviderRegistry) -> None:
    open_up(short_open, upstream)
    upstream.script = scripts.hang()
    cancel_token = CancelToken()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, short_open, replace(HELLO, cancel_token=cancel_token))
        upstream.wait_for(lambda: upstream.open_streams == 1)
        assert ask(short_open) == "provider_circuit_open"
        cancel_token.cancel()
        assert waiting.result(20) == "provider_unreachable"
    upstream.script = scripts.words(1)
    assert ask(short_open) == "word0 "


def test_earlier_calls_do_not_change_open_circuit(
    upstream: Upstream, make_registry: Callable[..., ProviderRegistry]
) -> None:
    """The ends of streams that began before the circuit opened do not change it."""
    registry = make_registry()
    gates = [Gate(scripts.words(1)), Gate(scripts.api_error(500))]
    upstream.queue_scripts(*gates)
    with ThreadPoolExecutor(2) as pool:
        long = [pool.submit(ask, registry) for _ in gates]
        upstream.wait_for(lambda: upstream.open_streams == 2)
        upstream.script = scripts.api_error(500)
        assert [ask(registry) for _ in range(4)][-1] == "provider_circuit_open"
        for gate in gates:
            gate.open()
        assert {future.result(20) for future in long} == {"word0 ", "provider_bad_answer"}
    assert ask(registry) == "provider_circuit_open"


def test_state_changes_are_exposed_and_logged(
    upstream: Upstream, short_open: ProviderRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parley.providers")
    assert state() == 0
    open_up(short_open, upstream)
    assert state() == 2
    upstream.script = scripts.words(1)
    ask(short_open)
    assert state() == 0
    changes = [(record.levelname, record.message) for record in caplog.records if "circuit" in record.message]
    assert changes == [
        ("WARNING", "circuit of compatible: open"),
        ("INFO", "circuit of compatible: half_open"),
        ("INFO", "circuit of compatible: closed"),
    ]


def fail_for(*models: str) -> Script:
    """Return a script that answers 429 for these models, and with one word for all others."""
    refuse, answer = scripts.api_error(429), scripts.words(1)

    async def script(exchange: Exchange) -> None:
        await (refuse if exchange.json()["model"] in models else answer)(exchange)

    return script


def test_failing_model_opens_only_its_own_circuit(upstream: Upstream, registry: ProviderRegistry) -> None:
    upstream.script = fail_for("fails")
    failing, other = replace(HELLO, model="fails"), replace(HELLO, model="works")
    assert [ask(registry, failing) for _ in range(4)] == ["provider_overloaded"] * 3 + ["provider_circuit_open"]
    named = replace(HELLO, model=registry.default.default_model)
    assert [ask(registry, request) for request in (HELLO, named, other)] == ["word0 "] * 3
    with pytest.raises(ProviderCircuitOpen, match="The model fails of the provider compatible has failed"):
        registry.stream(None, failing).__enter__()
    assert state(model="__other__") == 2
    assert state(model=registry.default.default_model) == 0


def test_answers_of_other_models_do_not_close_circuit(upstream: Upstream, registry: ProviderRegistry) -> None:
    default = registry.default.default_model
    upstream.script = fail_for(default)
    other = replace(HELLO, model="works")
    answers = [ask(registry, request) for _ in range(3) for request in (HELLO, other)]
    assert answers == ["provider_overloaded", "word0 "] * 3
    assert ask(registry) == "provider_circuit_open"
    assert ask(registry, replace(HELLO, model=default)) == "provider_circuit_open"
    assert ask(registry, other) == "word0 "


def test_circuits_of_named_models_are_bounded(
    upstream: Upstream, make_registry: Callable[..., ProviderRegistry]
) -> None:
    registry = make_registry(AI_CIRCUIT_FAILURES=1)
    default = registry.default.default_model
    upstream.script = scripts.api_error(500)
    assert [ask(registry), ask(registry)] == ["provider_bad_answer", "provider_circuit_open"]
    names = [f"model-{number}" for number in range(2 * MAX_MODELS)]
    assert {ask(registry, replace(HELLO, model=name)) for name in names} == {"provider_bad_answer"}
    assert ask(registry) == "provider_circuit_open", "the circuit of the default model was dropped"
    upstream.requests.clear()
    again = [ask(registry, replace(HELLO, model=name)) for name in reversed(names)]
    assert again.count("provider_circuit_open") == MAX_MODELS
    assert here().labels("ai_circuit_state", "model") >= {default, "__other__"}
    assert not here().labels("ai_circuit_state", "model") & set(names)


@pytest.mark.process
def test_trial_and_cancel_under_gevent(upstream: Upstream) -> None:
    """One greenlet makes the trial, and cancelling ends a wait of 1000 seconds."""
    upstream.queue_scripts(scripts.api_error(500), scripts.words(1, first=1), scripts.words(1))
    upstream.script = scripts.api_error(503, headers={"Retry-After": "1000"})
    command = [sys.executable, "-m", "tests.providers.gevent_circuit", upstream.base_url, str(CALLERS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "one by one": ["provider_bad_answer", "provider_circuit_open", "word0 ", "provider_overloaded"],
        "together": {"word0 ": 1, "provider_circuit_open": CALLERS - 1},
    }
    assert len(upstream.requests) == 4
