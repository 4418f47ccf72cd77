"""How the tables grew."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from ops.figures.counters import database_bytes, read_tables
from ops.figures.record import recorded
from ops.findings import CannotJudge

SHORTEST = timedelta(days=1)  # over less than that nothing can be said of a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """One table with its indexes. `rows` are what the planner believes, None where nobody has counted them."""

    table: str
    bytes: int
    grown_bytes: int
    grown_share: float | None
    rows: int | None
    grown_rows: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthReport:
    """From `since`, when the older figures were written down, until now. The table that grew most comes first."""

    since: datetime
    days: float
    why: str | None
    database_bytes: int
    grown_bytes: int
    bytes_a_day: int
    tables: tuple[Grown, ...]


def growth(connection: Connection, *, since: datetime, now: datetime) -> GrowthReport:
    """What was added since. Raises `CannotJudge` where nothing that is old enough was written down."""
    before = recorded(connection, since)
    if before is None or now - before.at < SHORTEST:
        raise CannotJudge(
            "How large the tables were is not known: no figures are older than a day."
            + ("" if before is None else f" The first were recorded at {before.at:%Y-%m-%d %H:%M} UTC."),
            remedy="Wait a day; the beat records them every hour, and so does `flask ops jobs run figures.record`",
        )
    total, span = database_bytes(connection), (now - before.at) / timedelta(days=1)
    grown = []
    for table in read_tables(connection):
        rows, size, index = before.tables.get(table.name, (0, 0, 0))
        added = table.bytes + table.index_bytes - size - index
        grown.append(
            Grown(
                table=table.name,
                bytes=table.bytes + table.index_bytes,
                grown_bytes=added,
                grown_share=round(added / (size + index), 3) if size + index else None,
                rows=table.rows,
                grown_rows=None if rows is None or table.rows is None else table.rows - rows,
            )
        )
    return GrowthReport(
        since=before.at,
        days=round(span, 2),
        why="no figures were recorded before that" if before.at > since else None,
        database_bytes=total,
        grown_bytes=total - before.database_bytes,
        bytes_a_day=round((total - before.database_bytes) / span),
        tables=tuple(sorted(grown, key=lambda each: each.grown_bytes, reverse=True)),
    )
