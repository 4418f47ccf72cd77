"""The way of a request to an answer: retries of transient failures, circuits, and fallback providers.

All of this happens before the first event. Afterwards a reader has seen a part of the answer, so a failure is final.
One total deadline covers all tries and waits.
"""

import logging
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain, count
from time import monotonic
from types import TracebackType

from app.config import Provider as ProviderSettings
from app.errors import (
    ProviderCircuitOpen,
    ProviderError,
    ProviderMisconfigured,
    ProviderProtocolError,
    ProviderTimedOut,
)
from app.metrics.chat import record_ai_fallback, record_ai_retry
from app.outbound.circuit import Circuit, CircuitState
from app.outbound.errors import CircuitOpen
from app.providers.base import ChatRequest, Provider, StreamEvent
from app.providers.circuits import ProviderCircuits
from app.text import shortened

MAX_WAIT_BEFORE_FALLBACK = 2.0  # seconds between two tries of a provider that has a fallback
BACKOFF_SECONDS = 0.5  # the longest wait before the first retry; doubled for each further one
MAX_BACKOFF_SECONDS = 8.0

_log = logging.getLogger("parley.providers")


@dataclass(frozen=True, slots=True)
class _Route:
    provider: Provider
    circuits: ProviderCircuits


class ProviderRouter:
    """Connects requests with providers. One per process, shared by all threads."""

    def __init__(self, providers: Mapping[str, Provider], settings: ProviderSettings) -> None:
        """Make the circuits of each provider. `settings.fallback` must name providers of `providers`."""

        def make_circuit(on_change: Callable[[CircuitState], None]) -> Circuit:
            failures, seconds = settings.circuit_failures, settings.circuit_open_seconds
            return Circuit(failures=failures, open_seconds=seconds, on_change=on_change)

        self._routes = {
            name: _Route(provider, ProviderCircuits(name, provider.default_model, make_circuit))
            for name, provider in providers.items()
        }
        self._fallback = [self._routes[name] for name in dict.fromkeys(settings.fallback)]
        self.tries = 1 + settings.retries
        self.total = settings.total_timeout
        self.min_fair_timeout = min(settings.first_token_timeout, settings.total_timeout)

    def stream(
        self, name: str, request: ChatRequest, *, replaceable: bool
    ) -> AbstractContextManager[tuple[Provider, Iterator[StreamEvent]]]:
        """Return the provider that answers, and its answer; see `Provider.stream`.

        With `replaceable` the fallback providers may answer if `name` does not, each with its own default model. Raises
        the last failure, whose detail lists the tries.
        """
        chosen = self._routes[name]
        routes = [chosen]
        if replaceable and self._fallback:
            routes += [route for route in self._fallback if route is not chosen]
        return _Call(self, request, routes)


class _Call:
    """One request: a context manager, written as a class because generators and exit stacks cost 20 us a turn."""

    __slots__ = (
        "_cancel_token",
        "_circuit",
        "_context",
        "_events",
        "_request",
        "_route",
        "_router",
        "_routes",
        "_tried",
        "_until",
    )

    def __init__(self, router: ProviderRouter, request: ChatRequest, routes: Sequence[_Route]) -> None:
        self._router, self._request, self._routes, self._route = router, request, routes, routes[0]
        self._cancel_token = request.cancel_token
        self._until = monotonic() + router.total
        self._tried: list[str] = []  # the provider of each try

    def __enter__(self) -> tuple[Provider, Iterator[StreamEvent]]:
        self._connect()
        return self._route.provider, self._events

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if not self._cancel_token.cancelled:
            if kind is None:
                self._circuit.succeeded()
            elif isinstance(error, ProviderTimedOut) and monotonic() >= self._until:
                pass  # the total deadline passed while the provider was still sending
            elif isinstance(error, ProviderError) and not isinstance(error, ProviderMisconfigured):
                self._circuit.failed()  # in the middle of its answer
        return self._context.__exit__(kind, error, trace)

    def _connect(self) -> None:
        """Try one provider after the other until one answers."""
        for index, route in enumerate(self._routes):
            self._route = route
            last = index + 1 == len(self._routes)
            if index:  # the model belongs to the first provider
                self._request = replace(self._request, model=None, until=self._until)
            self._circuit = route.circuits.of(self._request.model)
            try:
                self._try_with_retries(max_wait=self._router.total if last else MAX_WAIT_BEFORE_FALLBACK)
            except ProviderError as error:
                if last or self._cancel_token.cancelled or monotonic() >= self._until:
                    self._add_tries(error)
                    raise
            else:
                if index:
                    record_ai_fallback(route.provider.name)
                    _log.info("%s answers instead of %s", route.provider.name, self._routes[0].provider.name)
                return

    def _try_with_retries(self, *, max_wait: float) -> None:
        """Try one provider until it answers, its tries are used up, or the next wait is longer than `max_wait`."""
        for number in count(1):
            try:
                self._try()
                return
            except ProviderError as error:
                seconds = (error.retry_after or 0) + _backoff(number)
                too_late = seconds > max_wait or monotonic() + seconds >= self._until
                if number == self._router.tries or too_late or not self._is_retryable(error):
                    raise
                self._wait(seconds, error)
                if self._cancel_token.cancelled:
                    raise
            self._request = replace(self._request, until=self._until)

    def _is_retryable(self, error: ProviderError) -> bool:
        return error.transient and self._circuit.closed and not self._cancel_token.cancelled

    def _try(self) -> None:
        """Send the request once, and wait for the first event."""
        provider, circuit = self._route.provider, self._circuit
        try:
            trial = circuit.admit()
        except CircuitOpen as error:
            raise ProviderCircuitOpen(f"{self._subject()} {error}.", retry_after=error.seconds) from None
        self._tried.append(provider.name)
        time_left = self._request.until - monotonic()
        context = provider.stream(self._request)
        try:
            events = context.__enter__()
            try:
                first = next(events, None)
                if first is None:
                    raise ProviderProtocolError(f"The provider {provider.name} ended its answer without any content.")
            except BaseException:
                context.__exit__(*sys.exc_info())
                raise
        except ProviderMisconfigured:
            if trial:
                circuit.trial_succeeded()  # a rejection shows that the provider is reachable
            raise
        except BaseException as error:
            # Do not count a timeout if earlier providers had used up the time that this one should have had.
            unfair = (
                isinstance(error, ProviderTimedOut)
                and not error.transient
                and time_left < self._router.min_fair_timeout
            )
            if isinstance(error, ProviderError) and not (unfair or self._cancel_token.cancelled):
                circuit.failed(trial=trial)
            elif trial:
                circuit.trial_cancelled()
            raise
        if trial:
            circuit.trial_succeeded()
        self._context, self._events = context, chain((first,), events)

    def _subject(self) -> str:
        """Return whose circuit this call uses, as the subject of a sentence."""
        provider, model = self._route.provider, self._request.model
        if model in (None, provider.default_model):
            return f"The provider {provider.name}"
        return f"The model {shortened(model or '', 100)} of the provider {provider.name}"

    def _wait(self, seconds: float, error: ProviderError) -> None:
        """Wait before a retry; cancelling ends the wait."""
        name = self._route.provider.name
        record_ai_retry(name, error.code)
        _log.info("retrying %s in %.1f s after %s", name, seconds, error.code, extra={"provider": name})
        cancelled = threading.Event()
        self._cancel_token.attach(cancelled.set)
        cancelled.wait(seconds)
        self._cancel_token.detach()

    def _add_tries(self, error: ProviderError) -> None:
        """Append to the detail of `error` how often each provider was tried."""
        if len(self._tried) > 1 or self._route is not self._routes[0]:
            counts = {route.provider.name: self._tried.count(route.provider.name) for route in self._routes}
            tries = [f"{tries or 'no'} {'try' if tries < 2 else 'tries'} of {name}" for name, tries in counts.items()]
            error.detail = f"{error.detail} Given up after {', '.join(tries)}."
            error.args = (error.detail,)


def _backoff(retry: int) -> float:
    """Return the seconds before a retry, counted from 1: random, so that callers that failed together spread out."""
    return random.uniform(0, min(BACKOFF_SECONDS * 2 ** (retry - 1), MAX_BACKOFF_SECONDS))  # noqa: S311  # no secret
