"""Archiving of WAL, where the server does it."""

from collections.abc import Iterator
from datetime import timedelta

from ops.backup.wal_archiving import WalArchiving, read_wal_archiving
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.errors import UnknownState
from ops.formatting import format_size
from ops.levels import Level

BEHIND, FAR_BEHIND = timedelta(minutes=15), timedelta(hours=1)
MANY_SEGMENTS = 64  # 1 GiB with the default size


@check("backup.wal", "Is WAL archived without errors and delay, where the server archives it?", severity=Level.CRITICAL)
def check_wal_archiving(context: CheckContext) -> Iterator[Finding]:
    """Find archiving that fails, lags or does nothing. A server that archives no WAL has no finding."""
    archiving = read_wal_archiving(context.connection)
    if not archiving.enabled:
        return
    if archiving.is_standby:
        raise UnknownState("The server is a standby, and pg_stat_archiver of its primary is not known here.")
    if not archiving.has_command:
        yield Finding(
            level=Level.CRITICAL,
            object="archive_command",
            message="archive_mode is on, but archive_command is empty: WAL is kept until the disk is full.",
            evidence={"archive_mode": "on"},
            remedy="Is WAL to be archived? Set archive_command as docs/restore.md shows, or archive_mode to off",
        )
    elif archiving.failing:
        yield _finding(
            archiving, f"Archiving of WAL fails; the last segment was archived at {_text(archiving)}.", Level.WARNING
        )
    elif archiving.behind_for > BEHIND or (archiving.waiting or 0) > MANY_SEGMENTS:
        count = "Complete" if archiving.waiting is None else f"{archiving.waiting} complete"
        yield _finding(
            archiving,
            f"{count} WAL segments are not archived, the last one was archived at {_text(archiving)}.",
            Level.WARNING,
        )


def _finding(archiving: WalArchiving, message: str, level: Level) -> Finding:
    waiting = archiving.waiting
    return Finding(
        level=Level.CRITICAL if archiving.behind_for > FAR_BEHIND or (waiting or 0) > MANY_SEGMENTS else level,
        object="archiver",
        message=message,
        evidence={
            "failed_attempts": archiving.failed,
            "last_failed_segment": archiving.last_failed_segment,
            "last_failed_at": archiving.last_failed_at,
            "last_archived_at": archiving.last_archived_at,
            "waiting": "unknown" if waiting is None else format_size(waiting * archiving.segment_bytes),
        },
        remedy="What does the server's log say about archive_command? See the runbook",
    )


def _text(archiving: WalArchiving) -> str:
    since = archiving.last_archived_at
    return f"{since:%Y-%m-%d %H:%M} UTC" if since else "no time since the statistics began"
