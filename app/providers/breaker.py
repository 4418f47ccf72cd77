"""A circuit breaker: who fails again and again is left alone for a while, and then tried by one caller before the rest.

    closed      everybody may ask; so many failures in a row open it
    open        nobody may ask, for so many seconds
    half_open   one caller is asking; its answer closes it, its failure opens it again

Of its own, because a stream is not a call: whether it succeeds shows at its first event, and it may still fail later.
The ready-made ones either hold a lock while they ask, so that streams wait for each other to begin, or let everybody
through at once when half open (docs/adr/0009-retries-and-fallback.md).
"""

import logging
import threading
from math import ceil
from time import monotonic

from app.errors import ProviderCircuitOpen
from app.metrics.chat import CircuitState, record_circuit

_log = logging.getLogger("parley.providers")


class Breaker:
    """The circuit of one provider in this process. Thread-safe; costs no lock while it is closed and all goes well.

    Each request goes through `admit`, whose answer goes back with its end: `answered` at the first event, and `failed`
    or `abandoned` instead of it. `completed` and `failed` (no probe any more) tell how the rest of the stream went.
    """

    def __init__(self, provider: str, *, failures: int, seconds: float) -> None:
        self._provider, self._limit, self._seconds = provider, failures, seconds
        self._failures = 0
        self._opened_at = 0.0
        self._state: CircuitState = "closed"
        self._lock = threading.Lock()
        record_circuit(provider, "closed")

    @property
    def state(self) -> CircuitState:
        """Open until the next request, even if the time is over: nobody knows better before."""
        return self._state

    def admit(self) -> bool:
        """Whether this request is the probe; raises ProviderCircuitOpen if there must be none."""
        if self._state == "closed":
            return False
        with self._lock:
            state, left = self.state, self._opened_at + self._seconds - monotonic()
            if state == "open" and left <= 0:
                self._change("half_open")
                return True
            if state == "closed":  # since a moment ago
                return False
        seconds = max(1, ceil(left))
        raise ProviderCircuitOpen(
            f"The provider {self._provider} has failed too often and is left alone; it is asked again in {seconds} s.",
            retry_after=seconds,
        )

    def answered(self, probe: bool) -> None:
        """The first event has come, or a refusal, which shows as well that somebody is there."""
        if probe:
            with self._lock:
                self._failures = 0
                self._change("closed")

    def completed(self) -> None:
        """An answer has come to its end."""
        self._failures = 0

    def failed(self, probe: bool = False) -> None:
        """No answer came, or it broke. What was asked before the circuit opened says nothing about now."""
        with self._lock:
            if self._state == "closed":
                self._failures += 1
            if probe or (self._state == "closed" and self._failures >= self._limit):
                self._opened_at = monotonic()
                self._change("open")

    def abandoned(self, probe: bool) -> None:
        """It was we who ended the request, so nothing is known. If it was the probe, the next one is."""
        if probe:
            with self._lock:
                self._change("open")

    def _change(self, state: CircuitState) -> None:
        level = logging.WARNING if state == "open" else logging.INFO
        _log.log(level, "circuit of %s: %s", self._provider, state, extra={"provider": self._provider})
        self._state = state
        record_circuit(self._provider, state)
