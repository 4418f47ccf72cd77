"""The deadlines of one call: the nearest one, and whether it has passed."""

import math
from time import monotonic

from app.outbound.cancellation import CancelToken
from app.outbound.errors import DeadlineExceeded
from app.outbound.timeouts import Timeouts


class Deadlines:
    """Checked before each wait on the network, so that a trickle of bytes cannot extend a deadline.

    The phases follow each other: connecting, waiting for the first event, waiting for the next one. The total deadline
    holds in all of them. `until` is a time of the monotonic clock that bounds the total too. One call, one thread.
    """

    __slots__ = ("_at", "_connecting", "_first_at", "_message", "_timeouts", "_total_at", "cancel_token")

    def __init__(self, timeouts: Timeouts, cancel_token: CancelToken | None = None, until: float = math.inf) -> None:
        now = monotonic()
        self.cancel_token = cancel_token or CancelToken()
        self._timeouts = timeouts
        self._first_at, self._total_at = now + timeouts.first_token, min(now + timeouts.total, until)
        self.expect_first_event()

    def expect_connection(self) -> None:
        """Start the connect phase."""
        self._set(
            monotonic() + self._timeouts.connect,
            "accepted no connection within {:g} seconds",
            self._timeouts.connect,
            connecting=True,
        )

    def expect_first_event(self) -> None:
        """Start the phase until the first event, whose deadline counts from the start of the call."""
        self._set(self._first_at, "sent nothing of its answer within {:g} seconds", self._timeouts.first_token)

    def expect_content(self) -> None:
        """Continue after an event without content: the later of the first-event and the idle deadline holds."""
        if monotonic() + self._timeouts.idle > self._first_at:
            self.expect_next_event()
        else:
            self.expect_first_event()

    def expect_next_event(self) -> None:
        """Restart the idle deadline after an event."""
        self._set(
            monotonic() + self._timeouts.idle,
            "sent nothing for {:g} seconds in the middle of its answer",
            self._timeouts.idle,
        )

    def expect_end(self, seconds: float) -> None:
        """Allow `seconds` for the rest of a response whose content is complete."""
        self._set(monotonic() + seconds, "did not end its answer within {:g} seconds", seconds)

    def remaining(self) -> float:
        """Return the seconds until the nearest deadline, more than 0. Raises `DeadlineExceeded` once it has passed."""
        remaining = self._at - monotonic()
        if remaining <= 0:
            raise self.exceeded()
        return remaining

    def exceeded(self) -> DeadlineExceeded:
        """Return the error for the current deadline."""
        message, seconds = self._message
        return DeadlineExceeded(message.format(seconds), connecting=self._connecting)

    def _set(self, at: float, message: str, seconds: float, *, connecting: bool = False) -> None:
        if self._total_at < at:
            at, message, seconds = self._total_at, "did not finish its answer within {:g} seconds", self._timeouts.total
            connecting = False
        self._at, self._message, self._connecting = at, (message, seconds), connecting
