"""The growth of tables."""

from dataclasses import asdict
from datetime import timedelta

from ops.checks.context import CheckContext
from ops.formatting import format_size
from ops.routines.sections import Section
from ops.stats.growth import table_growth

SHOWN = 10


def of_last_week(context: CheckContext) -> Section:
    """Return the growth within a week."""
    return _section(context, timedelta(weeks=1))


def of_last_month(context: CheckContext) -> Section:
    """Return the growth within thirty days."""
    return _section(context, timedelta(days=30))


def _section(context: CheckContext, window: timedelta) -> Section:
    now = context.now
    report = table_growth(context.connection, since=now - window, now=now)
    first = report.tables[0] if report.tables else None
    largest = (
        f", most of it {first.table} ({format_size(first.grown_bytes)})" if first and first.grown_bytes > 0 else ""
    )
    shorter = f"; {report.days:.1f} of {window.days} days, because {report.reason}" if report.reason else ""
    return Section(
        summary=f"{format_size(report.database_bytes)}, {format_size(report.grown_bytes)} more than {report.days:.1f}"
        " days ago" + largest + shorter,
        data={
            "since": report.since,
            "reason": report.reason,
            "database_bytes": report.database_bytes,
            "grown_bytes": report.grown_bytes,
            "bytes_per_day": report.bytes_per_day,
        },
        rows=tuple(asdict(table) for table in report.tables[:SHOWN]),
    )
