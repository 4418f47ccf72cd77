"""The hourly job that records statistics in its report; differences between two reports give a window of time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from app.database import direct_connection
from app.repositories.statement import Statement
from ops.catalogue.jobs import RECORD_STATS
from ops.errors import UnknownState
from ops.stats.cache import CacheCounters, read_cache
from ops.stats.counters import StatementCounters, database_bytes, read_statements, read_table_sizes

# The last report at or before a time, or else the first one after it.
RECORDED = Statement(
    "ops.recorded_stats",
    """
SELECT report, finished_at FROM (
    (SELECT report, finished_at, 1 AS choice FROM job_runs
      WHERE job = %(job)s AND status = 'succeeded' AND started_at <= %(at)s ORDER BY started_at DESC LIMIT 1)
    UNION ALL
    (SELECT report, finished_at, 2 FROM job_runs
      WHERE job = %(job)s AND status = 'succeeded' AND started_at > %(at)s ORDER BY started_at LIMIT 1)) AS near
 ORDER BY choice LIMIT 1""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsReport:
    """The statistics at one time.

    `tables` by name: rows, bytes, bytes of indexes. `statements` by name: calls, total and maximum milliseconds, rows;
    None if statements are not counted, with the reason in `unavailable`. `cache`: start of the counters, then hits and
    reads of tables and of indexes.
    """

    database_bytes: int
    tables: dict[str, tuple[int | None, int, int]]
    counting_since: datetime | None
    statements: dict[str, tuple[int, float, float, int]] | None
    unavailable: str | None
    cache: tuple[datetime, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStats:
    """The statistics of a report, and its time."""

    at: datetime
    database_bytes: int
    tables: Mapping[str, tuple[int | None, int, int]]
    counting_since: datetime | None
    statements: Mapping[str, StatementCounters] | None
    cache: CacheCounters | None = None  # None in a record of an older version


def record() -> StatsReport:
    """Read the present statistics; the job's report keeps them."""
    with direct_connection() as connection:
        statements, since, unavailable = None, None, None
        try:
            statistics = read_statements(connection)
            since = statistics.since
            statements = {
                name: (counters.calls, round(counters.total_ms, 1), round(counters.max_ms, 1), counters.rows)
                for name, counters in statistics.by_name.items()
            }
        except UnknownState as error:
            unavailable = error.reason
        sizes, cache = read_table_sizes(connection), read_cache(connection)
        return StatsReport(
            database_bytes=database_bytes(connection),
            tables={table.name: (table.rows, table.bytes, table.index_bytes) for table in sizes},
            counting_since=since,
            statements=statements,
            unavailable=unavailable,
            cache=(cache.since, cache.table_hits, cache.table_reads, cache.index_hits, cache.index_reads),
        )


def recorded_stats(connection: Connection, at: datetime) -> RecordedStats | None:
    """Return the last statistics recorded before `at`, or else the first after it; None if there are none."""
    row = RECORDED.one(connection, {"job": RECORD_STATS.name, "at": at})
    if row is None or row.report is None:
        return None
    report: dict[str, Any] = row.report
    since, counters = report.get("counting_since"), report.get("statements")
    return RecordedStats(
        at=row.finished_at,
        database_bytes=report["database_bytes"],
        tables={name: (rows, size, index_size) for name, (rows, size, index_size) in report["tables"].items()},
        counting_since=datetime.fromisoformat(since) if since else None,
        statements=None
        if counters is None
        else {
            name: StatementCounters(calls=calls, total_ms=total, max_ms=maximum, rows=rows)
            for name, (calls, total, maximum, rows) in counters.items()
        },
        cache=_cache(report.get("cache")),
    )


def _cache(recorded: list[Any] | None) -> CacheCounters | None:
    if recorded is None:
        return None
    since, table_hits, table_reads, index_hits, index_reads = recorded
    return CacheCounters(
        since=datetime.fromisoformat(since),
        table_hits=table_hits,
        table_reads=table_reads,
        index_hits=index_hits,
        index_reads=index_reads,
    )
