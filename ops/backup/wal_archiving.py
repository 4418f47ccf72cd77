"""Archiving of WAL by the server, and what the loss of the database would cost without it.

Parley archives no WAL itself; see docs/restore.md for pgBackRest.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from app.repositories.statement import Statement

_SEGMENT = re.compile(r"[0-9A-F]{24}")
_LOG_BYTES = 2**32

# archive_library exists from version 15 on.
ARCHIVER = Statement(
    "backup.archiver",
    """
SELECT current_setting('archive_mode') <> 'off' AS enabled,
       coalesce(current_setting('archive_command', true), '') NOT IN ('', '(disabled)')
           OR coalesce(current_setting('archive_library', true), '') <> '' AS has_command,
       archived_count, failed_count, last_archived_wal, last_archived_time, last_failed_wal, last_failed_time,
       stats_reset, has_function_privilege('pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE') AS may_list,
       pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,
       extract(epoch FROM current_setting('archive_timeout')::interval)::int AS timeout_seconds,
       pg_is_in_recovery() AS is_standby, clock_timestamp() AS now
  FROM pg_catalog.pg_stat_archiver""",
)
CURRENT_SEGMENT = Statement(
    "backup.current_segment", "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) AS name"
)
# For roles with pg_monitor.
OLDEST_READY = Statement(
    "backup.oldest_ready",
    "SELECT min(modification) AS at FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%%.ready'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WalArchiving:
    """The state of `pg_stat_archiver`. `waiting` is the number of complete segments that are not archived, if known.

    `waiting_since` is the time when the oldest of them was complete, for roles that may read it. `failing`: the last
    attempt failed.
    """

    enabled: bool
    has_command: bool
    is_standby: bool
    archived: int
    failed: int
    last_archived_at: datetime | None
    last_failed_at: datetime | None
    last_failed_segment: str | None
    waiting: int | None
    waiting_since: datetime | None
    segment_bytes: int
    timeout_seconds: int
    counted_since: datetime | None
    now: datetime

    @property
    def failing(self) -> bool:
        if self.last_failed_at is None:
            return False
        return self.last_archived_at is None or self.last_failed_at > self.last_archived_at

    @property
    def behind_for(self) -> timedelta:
        """The time for which a complete segment waits, at most; zero if none waits.

        Without `waiting_since`, one segment may have been completed just now, and counts only after a failure.
        """
        if self.waiting_since is None and not self.failing and (self.waiting or 0) < 2:
            return timedelta()
        since = self.waiting_since or self.last_archived_at or self.counted_since
        return self.now - since if since is not None else timedelta()


def read_wal_archiving(connection: Connection) -> WalArchiving:
    """Read the state of the archiver. Raises `DBAPIError`."""
    row = ARCHIVER.one(connection, {})
    assert row is not None  # noqa: S101  # the view has one row
    waiting = None
    if row.enabled and not row.is_standby and _SEGMENT.fullmatch(row.last_archived_wal or ""):
        current = CURRENT_SEGMENT.one(connection, {})
        if current is not None:
            difference = _number(current.name, row.segment_bytes) - _number(row.last_archived_wal, row.segment_bytes)
            waiting = max(0, difference - 1)
    ready = OLDEST_READY.one(connection, {}) if row.enabled and row.may_list else None
    return WalArchiving(
        enabled=row.enabled,
        has_command=row.has_command,
        is_standby=row.is_standby,
        archived=row.archived_count,
        failed=row.failed_count,
        last_archived_at=row.last_archived_time,
        last_failed_at=row.last_failed_time,
        last_failed_segment=row.last_failed_wal,
        waiting=waiting,
        waiting_since=ready.at if ready is not None else None,
        segment_bytes=row.segment_bytes,
        timeout_seconds=row.timeout_seconds,
        counted_since=row.stats_reset,
        now=row.now,
    )


def describe_loss(archiving: WalArchiving, newest_backup: datetime | None) -> str:
    """Return what the loss of the database server would cost now, as one sentence."""
    if archiving.enabled and not archiving.is_standby and archiving.last_archived_at and not archiving.failing:
        ago = _ago(archiving.now - archiving.last_archived_at)
        size = f"each {archiving.segment_bytes // 1024**2} MB"
        limit = f"{size}, or after {archiving.timeout_seconds} s" if archiving.timeout_seconds else size
        return f"WAL is archived ({limit}), last {ago} ago: a lost database can be restored to that moment."
    state = "WAL archiving fails" if archiving.enabled else "WAL is not archived"
    if newest_backup is None:
        return f"{state}, and there is no good backup: with the database, everything would be lost."
    return (
        f"{state}: with the database, the changes of the last {_ago(archiving.now - newest_backup)} would be lost, and "
        "up to a whole day between two daily backups."
    )


def _number(segment: str, segment_bytes: int) -> int:
    """Return the position of a segment in its timeline."""
    return int(segment[8:16], 16) * (_LOG_BYTES // segment_bytes) + int(segment[16:24], 16)


def _ago(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"
