"""Finds somebody who answers: asks again what fails in passing, leaves alone who keeps failing, turns to the fallback.

Everything happens before the first event. After it the answer is under way: whoever reads it has seen a part, so a
failure is a failure. One total deadline holds over all tries and waits together.
"""

import logging
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from time import monotonic
from types import TracebackType

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.stop import stop_before_delay

from app.config import Provider as ProviderSettings
from app.errors import ProviderBadAnswer, ProviderError, ProviderMisconfigured, ProviderTimedOut
from app.metrics.chat import record_ai_fallback, record_ai_retry
from app.providers.base import ChatRequest, Provider, StreamEvent
from app.providers.breaker import Breaker

PATIENCE = 2.0  # seconds to wait for a provider while there is another one to ask
_backoff = wait_random_exponential(multiplier=0.5, max=8)  # 0 to 0.5 s, 0 to 1 s, ...: whoever failed together parts

_log = logging.getLogger("parley.providers")


@dataclass(frozen=True, slots=True)
class _Line:
    provider: Provider
    breaker: Breaker


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
        self.tries = 1 + settings.retries
        self.total = settings.total_timeout
        self.fair = min(settings.first_token_timeout, settings.total_timeout)

    def stream(
        self, name: str, request: ChatRequest, *, replaceable: bool
    ) -> AbstractContextManager[tuple[Provider, Iterator[StreamEvent]]]:
        """Who answers, and the answer: see `Provider.stream`, which this stands in front of.

        `replaceable`: the fallback may answer if `name` does not, with its own default model. Raises the last failure,
        whose detail says what was tried.
        """
        chosen = self._lines[name]
        lines = [chosen]
        if replaceable and self._fallback:
            lines += [line for line in self._fallback if line is not chosen]
        return _Call(self, request, lines)


class _Call:
    """One request on its way: a context manager, written out because generators and exit stacks cost 20 us a turn."""

    __slots__ = ("_board", "_context", "_events", "_hangup", "_line", "_lines", "_request", "_tried", "_until")

    def __init__(self, board: Switchboard, request: ChatRequest, lines: Sequence[_Line]) -> None:
        self._board, self._request, self._lines, self._line = board, request, lines, lines[0]
        self._hangup = request.hangup
        self._until = monotonic() + board.total
        self._tried: list[str] = []  # a name for each time that somebody was asked

    def __enter__(self) -> tuple[Provider, Iterator[StreamEvent]]:
        self._connect()
        return self._line.provider, self._events

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if not self._hangup.done:
            if kind is None:
                self._line.breaker.completed()
            elif isinstance(error, ProviderTimedOut) and monotonic() >= self._until:
                pass  # it was still talking
            elif isinstance(error, ProviderError) and not isinstance(error, ProviderMisconfigured):
                self._line.breaker.failed(error)  # in the middle of its answer
        return self._context.__exit__(kind, error, trace)

    def _connect(self) -> None:
        """Ask one after the other until somebody answers."""
        for place, line in enumerate(self._lines):
            self._line = line
            last = place + 1 == len(self._lines)
            if place:  # the model is another provider's
                self._request = replace(self._request, model=None, until=self._until)
            try:
                self._persist(patience=self._board.total if last else PATIENCE)
            except ProviderError as error:
                if last or self._hangup.done or monotonic() >= self._until:
                    self._say_what_was_tried(error)
                    raise
            else:
                if place:
                    record_ai_fallback(line.provider.name)
                    _log.info("%s answers instead of %s", line.provider.name, self._lines[0].provider.name)
                return

    def _persist(self, *, patience: float) -> None:
        """Ask one provider until it answers, its tries are used up, or waiting would take longer than `patience`."""
        try:
            self._try()
            return
        except ProviderError as error:
            failure, known = error, True

        def again() -> None:
            """The first time only the failure that is there already: tenacity takes 30 us even if there is none."""
            nonlocal known
            if known or self._hangup.done:
                known = False
                raise failure
            self._request = replace(self._request, until=self._until)
            self._try()

        def worth_it(error: BaseException) -> bool:
            passing = isinstance(error, ProviderError) and error.passing
            return passing and self._line.breaker.closed and not self._hangup.done

        enough = stop_after_attempt(self._board.tries) | stop_before_delay(self._until - monotonic())
        Retrying(
            retry=retry_if_exception(worth_it),
            stop=lambda state: enough(state) or state.upcoming_sleep > patience,
            wait=_wait,
            before_sleep=self._note,
            sleep=self._sleep,
            reraise=True,
        )(again)

    def _try(self) -> None:
        """Ask once, and wait for the first event."""
        provider, breaker = self._line.provider, self._line.breaker
        probe = breaker.admit()
        self._tried.append(provider.name)
        granted = self._request.until - monotonic()
        context = provider.stream(self._request)
        try:
            events = context.__enter__()
            try:
                first = next(events, None)
                if first is None:
                    raise ProviderBadAnswer(f"The provider {provider.name} ended its answer without saying anything.")
            except BaseException:
                context.__exit__(*sys.exc_info())
                raise
        except ProviderMisconfigured:
            breaker.answered(probe)
            raise
        except BaseException as error:
            # Too late to be fair: the others had used up the time that it would have had.
            cut_short = isinstance(error, ProviderTimedOut) and not error.passing and granted < self._board.fair
            if isinstance(error, ProviderError) and not (cut_short or self._hangup.done):
                breaker.failed(error, probe)
            else:
                breaker.abandoned(probe)
            raise
        breaker.answered(probe)
        self._context, self._events = context, chain((first,), events)

    def _sleep(self, seconds: float) -> None:
        """Ends at once when hung up."""
        woken = threading.Event()
        self._hangup.attach(woken.set)
        woken.wait(seconds)
        self._hangup.detach()

    def _note(self, state: RetryCallState) -> None:
        error, name = state.outcome.exception() if state.outcome else None, self._line.provider.name
        code = error.code if isinstance(error, ProviderError) else ""
        record_ai_retry(name, code)
        _log.info("%s is asked again in %.1f s: %s", name, state.upcoming_sleep, code, extra={"provider": name})

    def _say_what_was_tried(self, error: ProviderError) -> None:
        if len(self._tried) > 1 or self._line is not self._lines[0]:
            counts = {line.provider.name: self._tried.count(line.provider.name) for line in self._lines}
            said = [f"{count or 'no'} {'try' if count < 2 else 'tries'} of {name}" for name, count in counts.items()]
            error.detail = f"{error.detail} Given up after {', '.join(said)}."
            error.args = (error.detail,)


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: as long as the provider asks for, and a little more so that not all come at once."""
    error = state.outcome.exception() if state.outcome else None
    return (getattr(error, "retry_after", None) or 0) + _backoff(state)
