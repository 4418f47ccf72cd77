"""The status of the archival: backlog, bundles and latest runs."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any

from app.container import current_settings
from app.database import autocommit
from app.enums import ArchiveRunState
from app.repositories import archive_runs as runs
from app.repositories import archives as sql
from ops.archive.backlog import count_backlog, late_after, lateness, read_cutoff
from ops.archive.lock import is_running
from ops.archive.reports import ArchiveRunReport, Backlog
from ops.levels import Level
from ops.runs.batches import TimeBudget

SECONDS = 60  # for counting
PROCESS_GONE = "its process ended unexpectedly; --resume continues it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveStatus:
    """The status of the archival."""

    level: Annotated[Level, "`warning` if the oldest idle conversation is older than `late_after`."]
    after_days: Annotated[int, "Days without activity before a conversation is bundled; 0 if archival is off."]
    late_after: Annotated[timedelta, "Idle time in seconds after which the archival is late."]
    oldest: Annotated[timedelta | None, "Idle time of the oldest due conversation in seconds; null if none is."]
    backlog: Annotated[Backlog | None, "Conversations that are due; null if archival is off."]
    running: Annotated[bool, "Whether a run or an undo runs now."]
    bundles: Annotated[int, "Conversations in bundles."]
    bundled_messages: Annotated[int, "Messages in bundles."]
    plain_bytes: Annotated[int, "Size of these messages before compression."]
    runs: Annotated[tuple[ArchiveRunReport, ...], "The latest runs, newest first."]


def status(*, latest: int = 5, seconds: float = SECONDS) -> ArchiveStatus:
    """Return the current status with the `latest` runs. Counting stops after `seconds`."""
    days = current_settings().archive.after_days
    with autocommit() as connection:
        due = count_backlog(connection, read_cutoff(connection, days), budget=TimeBudget(seconds)) if days else None
        count: Any = sql.COUNT_BUNDLED.one(connection, {"run_id": None, "owner_id": None, "conversation_id": None})
    oldest = timedelta(seconds=due.oldest_seconds) if due and due.oldest_seconds is not None else None
    return ArchiveStatus(
        level=lateness(oldest, days),
        after_days=days,
        late_after=late_after(days),
        oldest=oldest,
        backlog=due,
        running=is_running(),
        bundles=count.conversations,
        bundled_messages=count.messages,
        plain_bytes=count.plain_bytes,
        runs=tuple(_current_runs(latest)),
    )


def _current_runs(limit: int) -> list[ArchiveRunReport]:
    """Return the latest runs; a run whose process ended without closing it is shown as interrupted."""
    reports = latest_runs(limit=limit)
    if not any(report.state == ArchiveRunState.RUNNING for report in reports) or is_running():
        return reports
    return [  # read again, because the run may just have ended
        replace(report, state=ArchiveRunState.INTERRUPTED, reason=PROCESS_GONE)
        if report.state == ArchiveRunState.RUNNING
        else report
        for report in latest_runs(limit=limit)
    ]


def latest_runs(*, limit: int) -> list[ArchiveRunReport]:
    """Return up to `limit` runs, newest first."""
    with autocommit() as connection:
        return [ArchiveRunReport.from_row(row) for row in runs.LATEST.all(connection, {"limit": limit})]
