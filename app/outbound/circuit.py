"""A circuit breaker for one kind of call to a server.

closed      calls are allowed; `failures` of them in a row open the circuit
open        calls fail at once, for `open_seconds`
half_open   one trial call is allowed; its success closes the circuit, its failure opens it again
"""

import threading
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Literal

from app.outbound.errors import CircuitOpen

CircuitState = Literal["closed", "half_open", "open"]


class Circuit:
    """One circuit in this process. Thread-safe; takes no lock while it is closed and calls succeed.

    The success of a stream shows at its first event, but a failure may still follow. So a trial call ends with
    `trial_succeeded`, `failed(trial=True)` or `trial_cancelled` at its first event, and the end of any stream counts as
    `succeeded` or `failed`. `on_change` is called with each new state; a new circuit is closed.
    """

    def __init__(self, *, failures: int, open_seconds: float, on_change: Callable[[CircuitState], None]) -> None:
        self._max_failures, self._open_seconds, self._on_change = failures, open_seconds, on_change
        self._failures = 0
        self._open_until: float | None = None  # None while closed
        self._state: CircuitState = "closed"
        self._lock = threading.Lock()
        self._trial_lock = threading.Lock()  # held by the trial call

    @property
    def state(self) -> CircuitState:
        """The state that `on_change` got last."""
        return self._state

    @property
    def closed(self) -> bool:
        return self._open_until is None

    def admit(self) -> bool:
        """Return whether this call is the trial. Raises `CircuitOpen` if it must not be made."""
        if self._open_until is None:
            return False
        if self._trial_lock.acquire(blocking=False):
            until = self._open_until
            if until is not None and monotonic() >= until:
                self._change("half_open")
                return True
            self._trial_lock.release()
        until = self._open_until
        if until is None:  # another thread's trial has just succeeded
            return False
        raise CircuitOpen(max(1, ceil(until - monotonic())))

    def trial_succeeded(self) -> None:
        """Close the circuit: the trial call was answered."""
        self._failures, self._open_until = 0, None
        self._change("closed")
        self._trial_lock.release()

    def trial_cancelled(self) -> None:
        """Let the next call be the trial: this one ended without a result."""
        self._change("open")
        self._trial_lock.release()

    def succeeded(self) -> None:
        """Reset the count of failures. A call that began before the circuit opened does not close it."""
        if self._open_until is None:
            self._failures = 0

    def failed(self, *, trial: bool = False, at_once: bool = False) -> None:
        """Count a failure; `at_once` opens the circuit at any count.

        A failure of a call that began before the circuit opened is ignored.
        """
        with self._lock:
            if not (trial or self._open_until is None):
                return
            self._failures += 1
            if at_once or self._failures >= self._max_failures:
                self._open_until = monotonic() + self._open_seconds
                self._change("open")
        if trial:
            self._trial_lock.release()

    def _change(self, state: CircuitState) -> None:
        self._state = state
        self._on_change(state)
