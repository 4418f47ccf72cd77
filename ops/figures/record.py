"""The hourly figures: a job writes down what is counted, in its report; differences are made from two of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from app.database import direct_connection
from app.repositories.statement import Statement
from ops.catalogue import RECORD_FIGURES
from ops.figures.counters import Counted, database_bytes, read_statements, read_tables
from ops.findings import CannotJudge

# The last one at or before a moment; where there is none, the first one after it.
RECORDED = Statement(
    "ops.recorded_figures",
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
class Figures:
    """What was counted at one moment. `statements` by name: calls, total and longest milliseconds, rows; None where
    nobody counts them, and then `lacking` says why. `tables` by name: rows, bytes, bytes of indexes.
    """

    database_bytes: int
    tables: dict[str, tuple[int | None, int, int]]
    counting_since: datetime | None
    statements: dict[str, tuple[int, float, float, int]] | None
    lacking: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Figures, and when they were written down."""

    at: datetime
    database_bytes: int
    tables: Mapping[str, tuple[int | None, int, int]]
    counting_since: datetime | None
    statements: Mapping[str, Counted] | None


def record() -> Figures:
    """What is counted now; the job's report keeps it."""
    with direct_connection() as connection:
        statements, since, lacking = None, None, None
        try:
            counts = read_statements(connection)
            since = counts.since
            statements = {
                name: (each.calls, round(each.total_ms, 1), round(each.max_ms, 1), each.rows)
                for name, each in counts.by_name.items()
            }
        except CannotJudge as error:
            lacking = error.reason
        return Figures(
            database_bytes=database_bytes(connection),
            tables={each.name: (each.rows, each.bytes, each.index_bytes) for each in read_tables(connection)},
            counting_since=since,
            statements=statements,
            lacking=lacking,
        )


def recorded(connection: Connection, at: datetime) -> Recorded | None:
    """The figures that were written down last before `at`, or first after it; None if there are none at all."""
    row = RECORDED.one(connection, {"job": RECORD_FIGURES.name, "at": at})
    if row is None or row.report is None:
        return None
    report: dict[str, Any] = row.report
    since, counts = report.get("counting_since"), report.get("statements")
    return Recorded(
        at=row.finished_at,
        database_bytes=report["database_bytes"],
        tables={name: (rows, size, index) for name, (rows, size, index) in report["tables"].items()},
        counting_since=datetime.fromisoformat(since) if since else None,
        statements=None
        if counts is None
        else {
            name: Counted(calls=calls, total_ms=total, max_ms=longest, rows=rows)
            for name, (calls, total, longest, rows) in counts.items()
        },
    )
