"""A turn as this process knows it: one that it answers, or one whose telling it follows.

The answer is produced by a thread of its own (a greenlet under gevent); readers only read, and may come and go.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.errors import ParleyError
from app.models.turn import TurnStatus
from app.providers.base import Hangup
from app.services.narration import Narration, TurnEvent


@dataclass(slots=True)
class Outcome:
    """How an attempt ended. `answer` is its last message as the API shows it; `error` is set unless it completed."""

    status: TurnStatus
    turn: dict[str, Any]
    answer: dict[str, Any] | None = None
    error: ParleyError | None = None


@dataclass(eq=False, kw_only=True)
class ToldTurn:
    """A turn that can be listened to. `outcome` is None until it has ended.

    `told_attempt` is the one that told the last of what was read from the database.
    """

    user_id: UUID
    id: UUID
    conversation_id: UUID
    title: str | None = None
    outcome: Outcome | None = None
    told_attempt: UUID | None = None
    narration: Narration = field(default_factory=Narration)

    def end(self, outcome: Outcome, kind: str, data: dict[str, Any], *, sequence: int | None = None) -> None:
        """Say the last event, and how it ended."""
        self.outcome = outcome
        self.narration.say(kind, data, sequence=sequence, last=True)

    def wait(self) -> Outcome:
        """Block until the attempt has ended. Its own deadlines bound the wait."""
        self.narration.wait()
        assert self.outcome is not None  # noqa: S101  # set before the last event
        return self.outcome

    def follow(self, silence: float, after: int = 0) -> Iterator[list[TurnEvent]]:
        """Every event beyond `after`, as `Narration.follow` gives them."""
        return self.narration.follow(silence, after)


@dataclass(eq=False, kw_only=True)
class RunningTurn(ToldTurn):
    """The attempt `attempt`, which this process answers. `wanted`: somebody follows it, so what it says is stored."""

    attempt: UUID
    position: int
    provider: str
    model: str | None
    started_at: datetime
    # With a daily quota: about how many tokens the provider is sent. None without one, where nothing is counted.
    tokens_sent: int | None = None
    wanted: bool = False
    # Why it should not go on: cancelled by its owner, interrupted by this process, or fenced: closed by somebody else.
    stop_status: TurnStatus | None = None
    fenced: bool = False
    hangup: Hangup = field(default_factory=Hangup)

    def say(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event and wake the readers."""
        self.narration.say(kind, data)

    def stop(self, status: TurnStatus, *, fenced: bool = False) -> None:
        """End the answer where it is: the attempt closes as `status`, and keeps what there is. Thread-safe.

        Only the first reason counts, and none does once the attempt has ended.
        """
        if self.outcome is None and self.stop_status is None:
            self.stop_status, self.fenced = status, fenced
            self.hangup()
