"""What a run would do, without doing it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.errors import NotFound
from app.repositories import archive_runs as runs
from app.services.container import services
from ops.archive.backlog import backlog, cutoff_of
from ops.archive.candidates import FIRST
from ops.care.batches import TimeBox, autocommit


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlan:
    """`conversations` with their `messages` would be archived, the oldest idle for so long; `estimate` is what that
    takes at the pace of the last run, its pauses included. `complete` is false where counting was given up.
    """

    cutoff: datetime
    looked_at: int
    conversations: int
    messages: int
    oldest: timedelta | None
    estimate: timedelta | None
    complete: bool


def plan(*, resume: UUID | None = None, seconds: float | None = 300) -> ArchivePlan:
    """Count what a run, or a resumed one, would find. Raises `NotFound`, and `InvalidInput` if switched off."""
    with autocommit() as connection:
        after = FIRST
        if resume is not None:
            row = runs.GET.one(connection, {"run_id": resume})
            if row is None:
                raise NotFound(f"There is no archival run {resume}.")
            cutoff = row.cutoff
            after = (row.cursor_user_id, row.cursor_conversation_id) if row.cursor_user_id else FIRST
        else:
            cutoff = cutoff_of(connection, services().settings.archive.after_days)
        due = backlog(connection, cutoff, after=after, time_box=TimeBox(seconds))
        pace = runs.PACE.one(connection, {})
    took = due.messages / pace.messages * pace.seconds if pace is not None else None
    return ArchivePlan(
        cutoff=cutoff,
        looked_at=due.seen,
        conversations=due.conversations,
        messages=due.messages,
        oldest=timedelta(seconds=due.oldest_seconds) if due.oldest_seconds is not None else None,
        estimate=timedelta(seconds=took) if took is not None else None,
        complete=due.complete,
    )
