"""A preview of an archival run."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from app.container import current_settings
from app.database import autocommit
from app.errors import NotFound
from app.repositories import archive_runs as runs
from ops.archive.backlog import count_backlog, read_cutoff
from ops.archive.candidates import FIRST_KEY
from ops.runs.batches import TimeBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePlan:
    """The conversations that a run would bundle."""

    cutoff: Annotated[datetime, "Conversations without activity since then would be bundled."]
    examined: Annotated[int, "Conversations examined."]
    conversations: Annotated[int, "Conversations to bundle."]
    messages: Annotated[int, "Messages of these conversations."]
    oldest: Annotated[timedelta | None, "Idle time of the oldest one in seconds; null if none is due."]
    estimate: Annotated[timedelta | None, "Seconds at the pace of the last run, with its pauses; null if unknown."]
    complete: Annotated[bool, "False if the time was too short for counting all."]


def plan(*, resume: UUID | None = None, seconds: float | None = 300) -> ArchivePlan:
    """Count the conversations of a new or resumed run. Raises `NotFound`, and `InvalidInput` if archival is off."""
    with autocommit() as connection:
        after = FIRST_KEY
        if resume is not None:
            row = runs.GET.one(connection, {"run_id": resume})
            if row is None:
                raise NotFound(f"There is no archival run {resume}.")
            cutoff = row.cutoff
            after = (row.cursor_user_id, row.cursor_conversation_id) if row.cursor_user_id else FIRST_KEY
        else:
            cutoff = read_cutoff(connection, current_settings().archive.after_days)
        due = count_backlog(connection, cutoff, after=after, budget=TimeBudget(seconds))
        pace = runs.PACE.one(connection, {})
    seconds_needed = due.messages / pace.messages * pace.seconds if pace is not None else None
    return ArchivePlan(
        cutoff=cutoff,
        examined=due.examined,
        conversations=due.conversations,
        messages=due.messages,
        oldest=timedelta(seconds=due.oldest_seconds) if due.oldest_seconds is not None else None,
        estimate=timedelta(seconds=seconds_needed) if seconds_needed is not None else None,
        complete=due.complete,
    )
