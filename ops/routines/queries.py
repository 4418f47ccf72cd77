"""Query performance: the most expensive statements, by their names in Parley's code."""

from dataclasses import asdict
from datetime import timedelta

from ops.checks.context import CheckContext
from ops.routines.sections import Section
from ops.stats.slow import is_own, slow_statements

DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
SHOWN = 10


def busiest_of_last_day(context: CheckContext) -> Section:
    """Return the statements with the most total time within the last day."""
    return _section(context, DAY, by="total_seconds")


def slowest_of_last_week(context: CheckContext) -> Section:
    """Return the statements with the highest average time within the last week."""
    return _section(context, WEEK, by="mean_ms")


def _section(context: CheckContext, window: timedelta, *, by: str) -> Section:
    now = context.now
    report = slow_statements(context.connection, since=now - window, until=now)
    own = sorted(filter(is_own, report.statements), key=lambda statement: float(getattr(statement, by)), reverse=True)
    first = f"; {own[0].name} is first, with {own[0].mean_ms:,.1f} ms on average" if own else ""
    return Section(
        summary=f"{report.calls:,} calls took {report.total_seconds:,.1f} s since {report.since:%Y-%m-%d %H:%M}{first}",
        data={"since": report.since, "reason": report.reason, "calls": report.calls, "seconds": report.total_seconds},
        rows=tuple(asdict(statement) for statement in own[:SHOWN]),
    )
