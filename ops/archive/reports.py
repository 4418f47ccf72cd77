"""What the archival says of itself."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRunReport:
    """One run as it stands. `conversations` were archived with their `messages`; their `plain_bytes` became
    `bundle_bytes`. `passed_over` were in use at that moment, `unfit` cannot be archived (the log says why), `restored`
    have been taken out of their bundles since. It made way for others for `paused_seconds`, last for `paused_for`.
    """

    id: UUID
    state: str
    started_at: datetime
    finished_at: datetime | None
    cutoff: datetime
    seen: int
    conversations: int
    messages: int
    plain_bytes: int
    bundle_bytes: int
    passed_over: int
    unfit: int
    restored: int
    paused_seconds: float
    paused_for: str | None
    reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> "ArchiveRunReport":
        """From a row of `archive_runs`."""
        return cls(**{name: getattr(row, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What there is to archive. `oldest` is the last sign of life of the conversation that has waited longest, which is
    so many seconds ago; both are None without any. `complete` is false where time ran out before all were looked at.
    """

    cutoff: datetime
    seen: int = 0
    conversations: int = 0
    messages: int = 0
    oldest: datetime | None = None
    oldest_seconds: float | None = None
    complete: bool = True
