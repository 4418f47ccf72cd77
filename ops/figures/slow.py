"""Which statements took how long within a window of time, by our own names."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from ops.figures.counters import OTHERS, UNSEEN, Counted, StatementCounts, read_statements
from ops.figures.record import Recorded, recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStatement:
    """The statements of one name within the window. `share` is theirs of all time spent; `longest_ms` may be older than
    the window: PostgreSQL keeps one for all time. 95th percentiles are in Parley's own metrics, not in the database.
    """

    statement: str
    calls: int
    mean_ms: float
    longest_ms: float
    total_seconds: float
    share: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReport:
    """`since` is when the window really begins, and `why` says why where that is not what was asked for."""

    since: datetime
    until: datetime
    why: str | None
    calls: int
    total_seconds: float
    statements: tuple[NamedStatement, ...]


def slow(connection: Connection, *, since: datetime, until: datetime) -> SlowReport:
    """What was counted from `since` until now, which is `until`. The most expensive first.

    Raises `CannotJudge` where pg_stat_statements is not to be had.
    """
    now = read_statements(connection)
    begun, base, why = _window(now, recorded(connection, since), since)
    differences = {name: _difference(count, base.get(name)) for name, count in now.by_name.items()}
    asked = {name: each for name, each in differences.items() if each.calls > 0}
    total = sum(each.total_ms for each in asked.values())
    found = [
        NamedStatement(
            statement=name,
            calls=each.calls,
            mean_ms=round(each.total_ms / each.calls, 3),
            longest_ms=round(each.max_ms, 3),
            total_seconds=round(each.total_ms / 1000, 3),
            share=round(each.total_ms / total, 4) if total else 0.0,
            rows=each.rows,
        )
        for name, each in asked.items()
    ]
    return SlowReport(
        since=begun,
        until=until,
        why=why,
        calls=sum(each.calls for each in asked.values()),
        total_seconds=round(total / 1000, 3),
        statements=tuple(sorted(found, key=lambda each: each.total_seconds, reverse=True)),
    )


def is_ours(statement: NamedStatement) -> bool:
    """Whether it has a name of ours, and is no question of the doctor's own."""
    return statement.statement not in (OTHERS, UNSEEN) and not statement.statement.startswith("ops.")


def _window(
    now: StatementCounts, before: Recorded | None, since: datetime
) -> tuple[datetime, "dict[str, Counted]", str | None]:
    """Since when the difference counts, what is to be taken off, and why that is not the moment asked for."""
    if before is None or before.statements is None:
        return now.since, {}, None if now.since >= since else "no figures were recorded yet: this is all there is"
    if before.counting_since != now.since:
        return now.since, {}, "the statistics were reset then"
    late = "no figures were recorded before that" if before.at > since else None
    return before.at, dict(before.statements), late


def _difference(now: Counted, before: Counted | None) -> Counted:
    """What was added. A name that PostgreSQL had forgotten meanwhile began anew."""
    if before is None or before.calls > now.calls:
        return now
    return Counted(
        calls=now.calls - before.calls,
        total_ms=max(0.0, now.total_ms - before.total_ms),
        max_ms=now.max_ms,
        rows=max(0, now.rows - before.rows),
    )
