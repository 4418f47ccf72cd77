"""How the archival stands: what there is to do, what was done, what is held."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from app.models import ArchiveRunState
from app.repositories import archive_runs as runs
from app.repositories import archives as sql
from app.services.container import services
from ops.archive.alone import under_way
from ops.archive.backlog import backlog, cutoff_of, late_after, lateness
from ops.archive.reports import ArchiveRunReport, Backlog
from ops.care.batches import TimeBox, autocommit
from ops.levels import Level

SECONDS = 60  # for counting
GONE = "its process ended before it did; --resume goes on with it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveStatus:
    """`level` tells whether the oldest idle conversation is older than `late_after`. `bundles` hold
    `bundled_messages`, in `plain_bytes` before compression. `under_way` says whether a run or an undo works now.
    """

    level: Level
    after_days: int
    late_after: timedelta
    oldest: timedelta | None
    backlog: Backlog | None
    under_way: bool
    bundles: int
    bundled_messages: int
    plain_bytes: int
    runs: tuple[ArchiveRunReport, ...]


def status(*, latest: int = 5, seconds: float = SECONDS) -> ArchiveStatus:
    """As of now, with the latest runs. Counting stops after so many `seconds`."""
    days = services().settings.archive.after_days
    with autocommit() as connection:
        due = backlog(connection, cutoff_of(connection, days), time_box=TimeBox(seconds)) if days else None
        count: Any = sql.COUNT_BUNDLED.one(connection, {"run_id": None, "owner_id": None, "conversation_id": None})
    oldest = timedelta(seconds=due.oldest_seconds) if due and due.oldest_seconds is not None else None
    return ArchiveStatus(
        level=lateness(oldest, days),
        after_days=days,
        late_after=late_after(days),
        oldest=oldest,
        backlog=due,
        under_way=under_way(),
        bundles=count.conversations,
        bundled_messages=count.messages,
        plain_bytes=count.plain_bytes,
        runs=tuple(_as_they_are(latest)),
    )


def _as_they_are(limit: int) -> list[ArchiveRunReport]:
    """The latest runs; one whose process has gone says so, although nobody has closed it yet."""
    found = latest_runs(limit=limit)
    if not any(each.state == ArchiveRunState.RUNNING for each in found) or under_way():
        return found
    return [  # read again: it may just have ended
        replace(each, state=ArchiveRunState.INTERRUPTED, reason=GONE) if each.state == ArchiveRunState.RUNNING else each
        for each in latest_runs(limit=limit)
    ]


def latest_runs(*, limit: int) -> list[ArchiveRunReport]:
    """Up to `limit` runs, the newest first."""
    with autocommit() as connection:
        return [ArchiveRunReport.of(row) for row in runs.LATEST.all(connection, {"limit": limit})]
