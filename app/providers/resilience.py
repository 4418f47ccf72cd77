"""Finds somebody who answers: asks again what fails in passing, leaves alone who keeps failing, turns to the fallback.

Everything happens before the first event. After it the answer is under way: whoever reads it has seen a part, so a
failure is a failure. One total deadline holds over all tries and waits together.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from time import monotonic

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.stop import stop_before_delay

from app.config import Provider as ProviderSettings
from app.errors import ProviderBadAnswer, ProviderError, ProviderMisconfigured, ProviderTimedOut
from app.metrics.chat import record_ai_fallback, record_ai_retry
from app.providers.base import ChatRequest, Hangup, Provider, StreamEvent
from app.providers.breaker import Breaker

PATIENCE = 2.0  # seconds to wait for a provider while there is another one to ask
_backoff = wait_random_exponential(multiplier=0.5, max=8)  # 0 to 0.5 s, 0 to 1 s, ...: whoever failed together parts

_log = logging.getLogger("parley.providers")


@dataclass(frozen=True, slots=True)
class _Line:
    provider: Provider
    breaker: Breaker


@dataclass(slots=True)
class _Asking:
    """One request: by when it must be answered, and how often whom it was put to."""

    hangup: Hangup
    until: float
    tries: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Stream:
    """An answer that has begun; `stack` closes it."""

    line: _Line
    first: StreamEvent
    rest: Iterator[StreamEvent]
    stack: ExitStack


class Switchboard:
    """Connects requests with providers. One per process, shared by all threads."""

    def __init__(self, providers: Mapping[str, Provider], settings: ProviderSettings) -> None:
        """`settings.fallback` must name providers that are there."""
        self._lines = {
            name: _Line(
                provider,
                Breaker(name, failures=settings.breaker_failures, seconds=settings.breaker_seconds),
            )
            for name, provider in providers.items()
        }
        self._fallback = [self._lines[name] for name in dict.fromkeys(settings.fallback)]
        self._tries = 1 + settings.retries
        self._total = settings.total_timeout
        self._fair = min(settings.first_token_timeout, settings.total_timeout)

    @contextmanager
    def stream(
        self, name: str, request: ChatRequest, *, replaceable: bool
    ) -> Iterator[tuple[Provider, Iterator[StreamEvent]]]:
        """Who answers, and the answer: see `Provider.stream`, which this stands in front of.

        `replaceable`: the fallback may answer if `name` does not, with its own default model. Raises the last failure,
        whose detail says what was tried.
        """
        chosen = self._lines[name]
        lines = [chosen, *(line for line in self._fallback if line is not chosen)] if replaceable else [chosen]
        asking = _Asking(request.hangup, monotonic() + self._total, {})
        stream = self._connect(asking, request, lines)
        breaker = stream.line.breaker
        with stream.stack:
            try:
                yield stream.line.provider, chain((stream.first,), stream.rest)
            except ProviderError as error:  # from the rest of the events
                if not (asking.hangup.done or isinstance(error, ProviderMisconfigured)):
                    breaker.failed()
                raise
            if not asking.hangup.done:
                breaker.completed()

    def _connect(self, asking: _Asking, request: ChatRequest, lines: Sequence[_Line]) -> _Stream:
        for place, line in enumerate(lines):
            last = place + 1 == len(lines)
            if place:  # the model is another provider's
                request = replace(request, model=None, until=asking.until)
            try:
                stream = self._persist(asking, request, line, patience=self._total if last else PATIENCE)
            except ProviderError as error:
                if last or asking.hangup.done or monotonic() >= asking.until:
                    _say_what_was_tried(error, asking.tries)
                    raise
            else:
                if place:
                    record_ai_fallback(line.provider.name)
                    _log.info("%s answers instead of %s", line.provider.name, lines[0].provider.name)
                return stream
        raise AssertionError("nobody to ask")

    def _persist(self, asking: _Asking, request: ChatRequest, line: _Line, *, patience: float) -> _Stream:
        """Ask one provider until it answers, its tries are used up, or waiting would take longer than `patience`."""
        try:
            return self._try(asking, request, line)
        except ProviderError as error:
            failure: ProviderError | None = error

        def again() -> _Stream:
            """The first time only the failure that is there already: tenacity takes 30 us even if there is none."""
            nonlocal failure
            known, failure = failure, None
            if known is not None:
                raise known
            return self._try(asking, replace(request, until=asking.until), line)

        def worth_it(error: BaseException) -> bool:
            passing = isinstance(error, ProviderError) and error.passing
            return passing and line.breaker.state == "closed" and not asking.hangup.done

        enough = stop_after_attempt(self._tries) | stop_before_delay(asking.until - monotonic())
        return Retrying(
            retry=retry_if_exception(worth_it),
            stop=lambda state: enough(state) or state.upcoming_sleep > patience,
            wait=_wait,
            before_sleep=lambda state: _note(state, line.provider.name),
            sleep=lambda seconds: _sleep(seconds, asking.hangup),
            reraise=True,
        )(again)

    def _try(self, asking: _Asking, request: ChatRequest, line: _Line) -> _Stream:
        """One try, up to the first event."""
        name = line.provider.name
        asking.tries.setdefault(name, 0)
        probe = line.breaker.admit()
        asking.tries[name] += 1
        granted = request.until - monotonic()
        try:
            with ExitStack() as stack:
                events = stack.enter_context(line.provider.stream(request))
                first = next(events, None)
                if first is None:
                    raise ProviderBadAnswer(f"The provider {name} ended its answer without saying anything.")
                stream = _Stream(line, first, events, stack.pop_all())
        except ProviderMisconfigured:
            line.breaker.answered(probe)
            raise
        except BaseException as error:
            # Too late to be fair: the others had used up the time that it would have had.
            cut_short = isinstance(error, ProviderTimedOut) and not error.passing and granted < self._fair
            if isinstance(error, ProviderError) and not (cut_short or asking.hangup.done):
                line.breaker.failed(probe)
            else:
                line.breaker.abandoned(probe)
            raise
        line.breaker.answered(probe)
        return stream


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: as long as the provider asks for, and a little more so that not all come at once."""
    error = state.outcome.exception() if state.outcome else None
    return (getattr(error, "retry_after", None) or 0) + _backoff(state)


def _sleep(seconds: float, hangup: Hangup) -> None:
    """Ends at once when hung up."""
    woken = threading.Event()
    hangup.attach(woken.set)
    woken.wait(seconds)
    hangup.detach()


def _note(state: RetryCallState, name: str) -> None:
    error = state.outcome.exception() if state.outcome else None
    code = error.code if isinstance(error, ProviderError) else ""
    record_ai_retry(name, code)
    _log.info("%s is asked again in %.1f s: %s", name, state.upcoming_sleep, code, extra={"provider": name})


def _say_what_was_tried(error: ProviderError, tries: Mapping[str, int]) -> None:
    if len(tries) > 1 or sum(tries.values()) > 1:
        said = [f"{count or 'no'} {'try' if count < 2 else 'tries'} of {name}" for name, count in tries.items()]
        error.detail = f"{error.detail} Given up after {', '.join(said)}."
        error.args = (error.detail,)
