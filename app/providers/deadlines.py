"""The clock of one call: which deadline is nearest, and whether it has passed."""

import math
from time import monotonic

from app.errors import ProviderTimedOut
from app.providers.base import Hangup, Timeouts


class Deadlines:
    """Asked before every single wait on the network, so that no trickle of bytes can stretch a deadline.

    One phase after the other: `connecting`, `answering` (until the first event), `continuing` (until the next one).
    The total deadline holds in all of them. Times are seconds of the monotonic clock. One call, one thread at a time.
    """

    __slots__ = ("_at", "_connecting", "_first_at", "_provider", "_timeouts", "_total_at", "_what", "hangup")

    def __init__(
        self, timeouts: Timeouts, provider: str, hangup: Hangup | None = None, until: float = math.inf
    ) -> None:
        now = monotonic()
        self.hangup = hangup or Hangup()
        self._timeouts, self._provider = timeouts, provider
        self._first_at, self._total_at = now + timeouts.first_token, min(now + timeouts.total, until)
        self.answering()

    def connecting(self) -> None:
        self._until(
            monotonic() + self._timeouts.connect,
            "accepted no connection within {:g} seconds",
            self._timeouts.connect,
            connecting=True,
        )

    def answering(self) -> None:
        self._until(self._first_at, "sent nothing of its answer within {:g} seconds", self._timeouts.first_token)

    def thinking(self) -> None:
        """Something came, but no piece of the answer yet: the later of the first-event and the idle deadline holds."""
        if monotonic() + self._timeouts.idle > self._first_at:
            self.continuing()
        else:
            self.answering()

    def continuing(self) -> None:
        self._until(
            monotonic() + self._timeouts.idle,
            "fell silent for {:g} seconds in the middle of its answer",
            self._timeouts.idle,
        )

    def ending(self, seconds: float) -> None:
        """The answer is whole; what may still come is worth so many seconds."""
        self._until(monotonic() + seconds, "did not end its answer within {:g} seconds", seconds)

    def left(self) -> float:
        """Seconds until the nearest deadline, more than 0; raises ProviderTimedOut once it has passed."""
        left = self._at - monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> ProviderTimedOut:
        """The error that says which deadline it was."""
        what, seconds = self._what
        error = ProviderTimedOut(f"The provider {self._provider} {what.format(seconds)}.")
        error.passing = self._connecting  # nothing has been asked yet, and a lost packet may be all there was to it
        return error

    def _until(self, at: float, what: str, seconds: float, *, connecting: bool = False) -> None:
        if self._total_at < at:
            at, what, seconds = self._total_at, "did not finish its answer within {:g} seconds", self._timeouts.total
            connecting = False
        self._at, self._what, self._connecting = at, (what, seconds), connecting
