"""The backlog of the archival: due conversations, and how long the oldest has waited."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from app.errors import InvalidInput
from app.repositories import archive_runs as runs
from ops.archive.candidates import FIRST_KEY, Key
from ops.archive.reports import Backlog
from ops.levels import Level
from ops.runs.batches import TimeBudget

PAGE = 20_000  # conversations read by one statement
CRITICAL_LATE = timedelta(days=7)  # after the time when it is late


def read_cutoff(connection: Connection, after_days: int) -> datetime:
    """Return the time `after_days` ago, by the database's clock. Raises `InvalidInput` for 0 days: archival is off."""
    if after_days == 0:
        raise InvalidInput("Archival is switched off: ARCHIVE_AFTER_DAYS is 0.")
    row: Any = runs.NOW.one(connection, {"days": after_days})
    cutoff: datetime = row.cutoff
    return cutoff


def count_backlog(connection: Connection, cutoff: datetime, *, after: Key = FIRST_KEY, budget: TimeBudget) -> Backlog:
    """Count the conversations after the key `after` that are idle since before `cutoff`, page by page."""
    examined = conversations = messages = 0
    oldest, measured_at, complete = None, None, True
    while True:
        parameters = {"cutoff": cutoff, "after_user": after[0], "after_id": after[1], "page": PAGE}
        page: Any = runs.BACKLOG.one(connection, parameters)
        examined, conversations, messages = (
            examined + page.examined,
            conversations + page.conversations,
            messages + page.messages,
        )
        oldest = min(filter(None, (oldest, page.oldest)), default=None)
        measured_at = page.measured_at
        if page.examined < PAGE:
            break
        if budget.expired:
            complete = False
            break
        after = (page.last_user, page.last_id)
    return Backlog(
        cutoff=cutoff,
        examined=examined,
        conversations=conversations,
        messages=messages,
        oldest=oldest,
        oldest_seconds=(measured_at - oldest).total_seconds() if oldest else None,
        complete=complete,
    )


def late_after(after_days: int) -> timedelta:
    """Return the age from which an idle conversation is late: `after_days`, and two days for the daily run."""
    return timedelta(days=after_days + 2)


def lateness(oldest: timedelta | None, after_days: int) -> Level:
    """Return the level for the age of the oldest due conversation; None if no conversation is due."""
    limit = late_after(after_days)
    if oldest is None or oldest <= limit:
        return Level.OK
    return Level.CRITICAL if oldest > limit + CRITICAL_LATE else Level.WARNING
