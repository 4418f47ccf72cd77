"""A turn while it runs in this process: what it has said so far, and how it ended.

Its answer is produced by a thread of its own (a greenlet under gevent); readers only read, and may come and go.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.errors import ParleyError
from app.models.turn import TurnStatus
from app.providers.base import Hangup


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """One event of the stream; `sequence` counts up from 1."""

    sequence: int
    kind: str
    data: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """How an attempt ended. `answer` is its last message as the API shows it; `error` is set unless it completed."""

    status: TurnStatus
    turn: dict[str, Any]
    answer: dict[str, Any] | None = None
    error: ParleyError | None = None


@dataclass(eq=False)
class RunningTurn:
    """The attempt `attempt` of turn `id`, which this process answers."""

    user_id: UUID
    id: UUID
    conversation_id: UUID
    attempt: UUID
    position: int
    provider: str
    model: str | None
    started_at: datetime
    title: str | None = None
    outcome: Outcome | None = None
    # Why it should not go on: cancelled by its owner, interrupted by this process, or fenced: closed by somebody else.
    stop_status: TurnStatus | None = None
    fenced: bool = False
    hangup: Hangup = field(default_factory=Hangup)
    _events: list[TurnEvent] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def stop(self, status: TurnStatus, *, fenced: bool = False) -> None:
        """End the answer where it is: the attempt closes as `status`, and keeps what there is. Thread-safe.

        Only the first reason counts, and none does once the attempt has ended.
        """
        if self.outcome is None and self.stop_status is None:
            self.stop_status, self.fenced = status, fenced
            self.hangup()

    def say(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event and wake the readers."""
        with self._changed:
            self._events.append(TurnEvent(len(self._events) + 1, kind, data))
            self._changed.notify_all()

    def end(self, outcome: Outcome, kind: str, data: dict[str, Any]) -> None:
        """Append the last event and wake everybody for good."""
        with self._changed:
            self.outcome = outcome
            self._events.append(TurnEvent(len(self._events) + 1, kind, data))
            self._changed.notify_all()

    def wait(self) -> Outcome:
        """Block until the attempt has ended. Its own deadlines bound the wait."""
        with self._changed:
            self._changed.wait_for(lambda: self.outcome is not None)
        assert self.outcome is not None  # noqa: S101  # wait_for without a time limit returns when it holds
        return self.outcome

    def follow(self, silence: float) -> Iterator[TurnEvent | None]:
        """Every event from the first to the last; None after each `silence` seconds without one."""
        seen = 0
        while True:
            with self._changed:
                news = self._changed.wait_for(lambda: len(self._events) > seen, timeout=silence)  # noqa: B023  # used at once
                events = self._events[seen:]
                over = self.outcome is not None
            yield from events if news else (None,)
            seen += len(events)
            if over:
                return
