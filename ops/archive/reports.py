"""Reports of the archival."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import Row

from app.enums import ArchiveRunState


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRunReport:
    """An archival run."""

    id: Annotated[UUID, "Id of the run."]
    state: Annotated[ArchiveRunState, "State of the run."]
    started_at: Annotated[datetime, "Start of the run."]
    finished_at: Annotated[datetime | None, "End of the run; null while it runs."]
    cutoff: Annotated[datetime, "Conversations without activity since then are bundled."]
    examined: Annotated[int, "Conversations examined."]
    conversations: Annotated[int, "Conversations bundled."]
    messages: Annotated[int, "Messages bundled."]
    plain_bytes: Annotated[int, "Size of these messages before compression."]
    bundle_bytes: Annotated[int, "Size of their bundles."]
    skipped: Annotated[int, "Conversations left for a later run because they were in use."]
    rejected: Annotated[int, "Conversations that cannot be bundled; the log has the reasons."]
    restored: Annotated[int, "Conversations of this run that were restored later."]
    paused_seconds: Annotated[float, "Time spent on waiting for other load."]
    paused_for: Annotated[str | None, "Reason of the last pause; null without one."]
    reason: Annotated[str | None, "Why the run did not complete; null otherwise."]

    @classmethod
    def from_row(cls, row: Row[Any]) -> "ArchiveRunReport":
        """Return the report of a row of `archive_runs`."""
        return cls(**{name: getattr(row, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The conversations that are due for archival."""

    cutoff: Annotated[datetime, "Conversations without activity since then are due."]
    examined: Annotated[int, "Conversations counted, also those that cannot be bundled now."] = 0
    conversations: Annotated[int, "Conversations that are due."] = 0
    messages: Annotated[int, "Messages of these conversations."] = 0
    oldest: Annotated[datetime | None, "Last activity of the oldest one; null if none is due."] = None
    oldest_seconds: Annotated[float | None, "Seconds since then; null if none is due."] = None
    complete: Annotated[bool, "False if the time was too short for counting all."] = True
