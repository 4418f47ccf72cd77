"""A circuit breaker: who fails again and again is left alone for a while, and then tried by one caller before the rest.

    closed      everybody may ask; so many failures in a row open it
    open        nobody may ask, for so many seconds
    half_open   one caller is asking; its answer closes it, its failure opens it again

The states, the counting and the time are the circuitbreaker package's. What is added is what a stream needs: that only
one finds out, where the package lets everybody through who comes before the first result, and that success shows at the
first event, while a failure may still come after it (docs/adr/0009-retries-and-fallback.md).
"""

import logging
import threading

from circuitbreaker import CircuitBreaker

from app.errors import ProviderCircuitOpen, ProviderError
from app.metrics.chat import CircuitState, record_circuit

_log = logging.getLogger("parley.providers")


class Breaker:
    """The circuit of one provider in this process. Thread-safe; costs no lock while it is closed and all goes well.

    Each request goes through `admit`, whose answer goes back with its end: `answered` at the first event, and `failed`
    or `abandoned` instead of it. `completed` and `failed` (no probe any more) tell how the rest of the stream went.
    """

    def __init__(self, provider: str, *, failures: int, seconds: float) -> None:
        self._provider = provider
        self._circuit = CircuitBreaker(
            failure_threshold=failures, recovery_timeout=seconds, expected_exception=ProviderError, name=provider
        )
        self._probing = threading.Lock()  # whoever has it is finding out
        self._counting = threading.Lock()  # the package adds without one
        record_circuit(provider, "closed")

    @property
    def closed(self) -> bool:
        return bool(self._circuit.closed)

    def admit(self) -> bool:
        """Whether this request is the probe; raises ProviderCircuitOpen if there must be none."""
        if self._circuit.closed:
            return False
        if self._probing.acquire(blocking=False):
            if self._circuit.state == "half_open":
                self._tell("half_open")
                return True
            self._probing.release()
        if self._circuit.closed:  # since a moment ago
            return False
        seconds = max(1, self._circuit.open_remaining)
        raise ProviderCircuitOpen(
            f"The provider {self._provider} has failed too often and is left alone; it is asked again in {seconds} s.",
            retry_after=seconds,
        )

    def answered(self, probe: bool) -> None:
        """The first event has come, or a refusal, which shows as well that somebody is there."""
        if probe:
            self._circuit.reset()
            self._tell("closed")
            self._probing.release()

    def completed(self) -> None:
        """An answer has come to its end."""
        if self._circuit.closed:
            self._circuit.reset()

    def failed(self, error: ProviderError, probe: bool = False) -> None:
        """No answer came, or it broke. What was asked before the circuit opened says nothing about now."""
        with self._counting:
            if not (probe or self._circuit.closed):
                return
            # The package keeps what it is given, so it gets one that nobody raised: a traceback would keep the turn.
            self._circuit.__exit__(type(error), type(error)(), None)
            if not self._circuit.closed:
                self._tell("open")
        if probe:
            self._probing.release()

    def abandoned(self, probe: bool) -> None:
        """It was we who ended the request, so nothing is known. If it was the probe, the next one is."""
        if probe:
            self._tell("open")
            self._probing.release()

    def _tell(self, state: CircuitState) -> None:
        level = logging.WARNING if state == "open" else logging.INFO
        _log.log(level, "circuit of %s: %s", self._provider, state, extra={"provider": self._provider})
        record_circuit(self._provider, state)
