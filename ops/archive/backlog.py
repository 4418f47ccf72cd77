"""What there is to archive, and for how long it has been waiting: the archival's service level."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from app.errors import InvalidInput
from app.metrics.archive import record_archive_backlog
from app.repositories import archive_runs as runs
from app.services.container import services
from ops.archive.candidates import FIRST, Key
from ops.archive.reports import Backlog
from ops.care.batches import TimeBox, autocommit
from ops.levels import Level

PAGE = 20_000  # conversations looked at by one statement
MEASURE_SECONDS = 240
CRITICAL_LATE = timedelta(days=7)  # beyond what is late


def cutoff_of(connection: Connection, after_days: int) -> datetime:
    """The moment before which a last sign of life must be, by the database's clock. Raises `InvalidInput` for 0."""
    if after_days == 0:
        raise InvalidInput("Archival is switched off: ARCHIVE_AFTER_DAYS is 0.")
    row: Any = runs.NOW.one(connection, {"days": after_days})
    found: datetime = row.cutoff
    return found


def backlog(connection: Connection, cutoff: datetime, *, after: Key = FIRST, time_box: TimeBox) -> Backlog:
    """Count what is idle since before `cutoff`, beyond the key `after`; each statement looks at a bounded number."""
    seen = conversations = messages = 0
    oldest, looked_at, complete = None, None, True
    while True:
        parameters = {"cutoff": cutoff, "after_user": after[0], "after_id": after[1], "page": PAGE}
        page: Any = runs.BACKLOG.one(connection, parameters)
        seen, conversations, messages = seen + page.seen, conversations + page.conversations, messages + page.messages
        oldest = min(filter(None, (oldest, page.oldest)), default=None)
        looked_at = page.looked_at
        if page.seen < PAGE:
            break
        if time_box.over:
            complete = False
            break
        after = (page.last_user, page.last_id)
    return Backlog(
        cutoff=cutoff,
        seen=seen,
        conversations=conversations,
        messages=messages,
        oldest=oldest,
        oldest_seconds=(looked_at - oldest).total_seconds() if oldest else None,
        complete=complete,
    )


def measure() -> Backlog | None:
    """Count the backlog and show it as metrics; None while archival is switched off."""
    days = services().settings.archive.after_days
    if days == 0:
        record_archive_backlog(0, 0.0)
        return None
    with autocommit() as connection:
        found = backlog(connection, cutoff_of(connection, days), time_box=TimeBox(MEASURE_SECONDS))
    record_archive_backlog(found.conversations, found.oldest_seconds or 0.0)
    return found


def late_after(after_days: int) -> timedelta:
    """How old the oldest idle conversation may become: its own days, and two for the daily run to come round."""
    return timedelta(days=after_days + 2)


def lateness(oldest: timedelta | None, after_days: int) -> Level:
    """How bad it is that the conversation that has waited longest is so old; None if none waits."""
    late = late_after(after_days)
    if oldest is None or oldest <= late:
        return Level.OK
    return Level.CRITICAL if oldest > late + CRITICAL_LATE else Level.WARNING
