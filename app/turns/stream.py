"""The event stream of a turn, and the attempt that this process runs.

A thread of its own (a greenlet under gevent) produces the answer. Readers only read, so they may come and go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.enums import TurnStatus
from app.errors import ParleyError, error_from_code
from app.outbound.cancellation import CancelToken
from app.turns.event_buffer import TurnEventBuffer


@dataclass(frozen=True, slots=True)
class TurnError:
    """Error of a turn that did not complete.

    An exception must not be shared between readers: each raise changes its traceback, and the API adds ids to it.
    """

    code: str
    detail: str
    retry_after: int | None = None  # seconds

    @classmethod
    def of(cls, error: ParleyError) -> "TurnError":
        """Return the error that `error` describes."""
        return cls(error.code, error.detail, error.retry_after)

    def view(self) -> dict[str, str]:
        """Return the error as it is stored and shown."""
        return {"code": self.code, "detail": self.detail}

    def exception(self, about: Mapping[str, str] | None = None) -> ParleyError:
        """Return a new exception; `about` holds the ids to show with it."""
        error = error_from_code(self.code, self.detail)
        error.retry_after, error.about = self.retry_after, about
        return error


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of an attempt. `answer` is its last message as the API shows it; `error` is set unless it completed."""

    status: TurnStatus
    turn: dict[str, Any]
    answer: dict[str, Any] | None = None
    error: TurnError | None = None


@dataclass(eq=False, kw_only=True)
class TurnStream:
    """A turn whose events can be read. `outcome` is None until it has ended.

    `has_gap`: the events were read from the database, and deltas of the last attempt are missing.
    """

    user_id: UUID
    id: UUID
    conversation_id: UUID
    title: str | None = None
    outcome: Outcome | None = None
    has_gap: bool = False
    events: TurnEventBuffer = field(default_factory=TurnEventBuffer)

    def end(self, outcome: Outcome, kind: str, data: dict[str, Any], *, sequence: int | None = None) -> None:
        """Set the outcome and append the last event."""
        self.outcome = outcome
        self.events.append(kind, data, sequence=sequence, last=True)

    def wait(self) -> Outcome:
        """Block until the attempt has ended. Its own deadlines bound the wait."""
        self.events.wait()
        assert self.outcome is not None  # noqa: S101  # set before the last event
        return self.outcome


@dataclass(eq=False, kw_only=True)
class RunningTurn(TurnStream):
    """The attempt `attempt` at a turn, run by this process."""

    attempt: UUID
    position: int
    provider: str
    model: str | None
    started_at: datetime
    project_id: UUID | None = None
    tokens_sent: int | None = None  # estimate; None for users without a token quota
    stores_events: bool = False  # whether a client may resume the stream on another process
    # Why the answer must stop: cancelled by the user, interrupted by this process, fenced (closed by another process).
    stop_status: TurnStatus | None = None
    fenced: bool = False
    answer_metadata: dict[str, Any] = field(default_factory=dict)  # in addition to what the answer itself has
    cancel_token: CancelToken = field(default_factory=CancelToken)

    def stop(self, status: TurnStatus, *, fenced: bool = False) -> None:
        """Stop the answer; the attempt ends as `status` and keeps the text so far. Thread-safe.

        Only the first call has an effect, and none after the end.
        """
        if self.outcome is None and self.stop_status is None:
            self.stop_status, self.fenced = status, fenced
            self.cancel_token.cancel()
