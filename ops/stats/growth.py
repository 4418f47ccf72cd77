"""The growth of tables between two recorded states."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from sqlalchemy import Connection

from ops.errors import UnknownState
from ops.stats.counters import database_bytes, read_table_sizes
from ops.stats.record import recorded_stats

MIN_PERIOD = timedelta(days=1)  # a shorter one does not allow a rate per day


@dataclass(frozen=True, slots=True, kw_only=True)
class TableGrowth:
    """The growth of one table with its indexes."""

    table: Annotated[str, "Name of the table."]
    bytes: Annotated[int, "Size."]
    grown_bytes: Annotated[int, "Growth; negative if it shrank."]
    grown_share: Annotated[float | None, "Growth as a share of the old size; null for a new table."]
    rows: Annotated[int | None, "The planner's estimate of rows; null before the first ANALYZE."]
    grown_rows: Annotated[int | None, "Growth in rows; null if an estimate is missing."]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthReport:
    """The growth of the database since an older record."""

    since: Annotated[datetime, "Time of the older record."]
    days: Annotated[float, "Days since then."]
    reason: Annotated[str | None, "Why the period is shorter than requested; null if it is not."]
    database_bytes: Annotated[int, "Size of the database."]
    grown_bytes: Annotated[int, "Growth of the database."]
    bytes_per_day: Annotated[int, "Growth per day."]
    tables: Annotated[tuple[TableGrowth, ...], "The tables, the one that grew most first."]


def table_growth(connection: Connection, *, since: datetime, now: datetime) -> GrowthReport:
    """Compare the present sizes with those at `since`. Raises `UnknownState` if no record is old enough."""
    before = recorded_stats(connection, since)
    if before is None or now - before.at < MIN_PERIOD:
        raise UnknownState(
            "The growth is unknown: no statistics were recorded more than a day ago."
            + ("" if before is None else f" The first were recorded at {before.at:%Y-%m-%d %H:%M} UTC."),
            remedy="flask ops sizes shows the present sizes. Wait a day: the beat records statistics every hour, as"
            " `flask ops jobs run stats.record` does",
        )
    total, days = database_bytes(connection), (now - before.at) / timedelta(days=1)
    tables = []
    for table in read_table_sizes(connection):
        rows, size, index_size = before.tables.get(table.name, (0, 0, 0))
        grown = table.bytes + table.index_bytes - size - index_size
        tables.append(
            TableGrowth(
                table=table.name,
                bytes=table.bytes + table.index_bytes,
                grown_bytes=grown,
                grown_share=round(grown / (size + index_size), 3) if size + index_size else None,
                rows=table.rows,
                grown_rows=None if rows is None or table.rows is None else table.rows - rows,
            )
        )
    return GrowthReport(
        since=before.at,
        days=round(days, 2),
        reason="no statistics were recorded before that" if before.at > since else None,
        database_bytes=total,
        grown_bytes=total - before.database_bytes,
        bytes_per_day=round((total - before.database_bytes) / days),
        tables=tuple(sorted(tables, key=lambda growth: growth.grown_bytes, reverse=True)),
    )
