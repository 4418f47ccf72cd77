"""The time that statements took within a window, by their names in Parley's code."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import Connection

from ops.stats.counters import HIDDEN, OTHER, StatementCounters, StatementStatistics, read_statements
from ops.stats.record import RecordedStats, recorded_stats


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStatement:
    """The statements of one name within the window. 95th percentiles are in Parley's metrics, not in the database."""

    name: Annotated[str, "Name of the statement."]
    calls: Annotated[int, "Number of calls."]
    mean_ms: Annotated[float, "Mean duration in milliseconds."]
    max_ms: Annotated[float, "Longest duration since the statistics began, in milliseconds."]
    total_seconds: Annotated[float, "Total duration."]
    share: Annotated[float, "Share of the total time of all statements, from 0 to 1."]
    rows: Annotated[int, "Rows returned or changed."]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReport:
    """The statements of a window of time."""

    since: Annotated[datetime, "Start of the window."]
    until: Annotated[datetime, "End of the window."]
    reason: Annotated[str | None, "Why the window does not begin at the requested time; null if it does."]
    calls: Annotated[int, "Calls of all statements."]
    total_seconds: Annotated[float, "Total duration of all statements."]
    statements: Annotated[tuple[NamedStatement, ...], "The statements, the one with the longest total duration first."]


def slow_statements(connection: Connection, *, since: datetime, until: datetime) -> SlowReport:
    """Return the statements from `since` until now, which is `until`, the most expensive first.

    Raises `UnknownState` if pg_stat_statements is not available.
    """
    now = read_statements(connection)
    start, base, reason = _window(now, recorded_stats(connection, since), since)
    differences = {name: _difference(counters, base.get(name)) for name, counters in now.by_name.items()}
    called = {name: counters for name, counters in differences.items() if counters.calls > 0}
    total = sum(counters.total_ms for counters in called.values())
    statements = [
        NamedStatement(
            name=name,
            calls=counters.calls,
            mean_ms=round(counters.total_ms / counters.calls, 3),
            max_ms=round(counters.max_ms, 3),
            total_seconds=round(counters.total_ms / 1000, 3),
            share=round(counters.total_ms / total, 4) if total else 0.0,
            rows=counters.rows,
        )
        for name, counters in called.items()
    ]
    return SlowReport(
        since=start,
        until=until,
        reason=reason,
        calls=sum(counters.calls for counters in called.values()),
        total_seconds=round(total / 1000, 3),
        statements=tuple(sorted(statements, key=lambda statement: statement.total_seconds, reverse=True)),
    )


def is_own(statement: NamedStatement) -> bool:
    """Return whether it is a statement of Parley, but not of the doctor."""
    return statement.name not in (OTHER, HIDDEN) and not statement.name.startswith("ops.")


def _window(
    now: StatementStatistics, before: RecordedStats | None, since: datetime
) -> tuple[datetime, Mapping[str, StatementCounters], str | None]:
    """Return the start of the window, the counters at that time, and the reason if it is not `since`."""
    if before is None or before.statements is None:
        return now.since, {}, None if now.since >= since else "no statistics were recorded yet: this is all there is"
    if before.counting_since != now.since:
        return now.since, {}, "the statistics were reset then"
    reason = "no statistics were recorded before that" if before.at > since else None
    return before.at, before.statements, reason


def _difference(now: StatementCounters, before: StatementCounters | None) -> StatementCounters:
    """Subtract `before`. Fewer calls than before mean that PostgreSQL discarded the statement and counts from zero."""
    if before is None or before.calls > now.calls:
        return now
    return StatementCounters(
        calls=now.calls - before.calls,
        total_ms=max(0.0, now.total_ms - before.total_ms),
        max_ms=now.max_ms,
        rows=max(0, now.rows - before.rows),
    )
