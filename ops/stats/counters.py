"""The present statement statistics and table sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from app.repositories.statement import Statement
from ops.checks.extensions import statements_loaded
from ops.errors import UnknownState

OTHER = "other"  # statements without a name in Parley's code
HIDDEN = "hidden"  # statements of other roles, which this role may not read

EXTENSION = Statement(
    "ops.statements_extension",
    """
SELECT quote_ident(n.nspname) AS schema,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS available
  FROM (SELECT 1) AS one LEFT JOIN pg_extension e ON e.extname = 'pg_stat_statements'
  LEFT JOIN pg_namespace n ON n.oid = e.extnamespace""",
)
# Statements are grouped by the name in their leading comment; the rest of their text is not read.
STATEMENTS = r"""
SELECT coalesce(substring(s.query from '/\* ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?: rid=[^ ]+)? \*/'),
                CASE WHEN s.query = '<insufficient privilege>' THEN 'hidden' ELSE 'other' END) AS name,
       sum(s.calls)::int8 AS calls, sum(s.total_exec_time)::float8 AS total_ms, max(s.max_exec_time)::float8 AS max_ms,
       sum(s.rows)::int8 AS rows
  FROM {schema}.pg_stat_statements s
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
 GROUP BY 1 ORDER BY 3 DESC"""
SINCE = "SELECT stats_reset FROM {schema}.pg_stat_statements_info"
# With indexes and TOAST. -1 rows: not analyzed yet. Exclusively locked tables are skipped, because reading their size
# would wait for the lock.
TABLE_SIZES = Statement(
    "ops.table_sizes",
    """
SELECT c.relname AS name, c.reltuples::int8 AS rows,
       pg_table_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND pg_table_is_visible(c.oid) AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_locks l
                    WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock' AND l.granted
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                      AND l.pid <> pg_backend_pid())
 ORDER BY pg_table_size(c.oid) + pg_indexes_size(c.oid) DESC""",
)
DATABASE_SIZE = Statement("ops.database_size", "SELECT pg_database_size(current_database()) AS bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementCounters:
    """The calls of the statements of one name. `max_ms` is the maximum since `StatementStatistics.since`."""

    calls: int
    total_ms: float
    max_ms: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementStatistics:
    """The content of pg_stat_statements by name, counted from `since`."""

    since: datetime
    by_name: Mapping[str, StatementCounters]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """The size of one table. `rows` is the planner's estimate, None before the first ANALYZE."""

    name: str
    rows: int | None
    bytes: int
    index_bytes: int


def read_statements(connection: Connection) -> StatementStatistics:
    """Read pg_stat_statements. Raises `UnknownState` if it is not available."""
    row = EXTENSION.one(connection, {})
    if row is None or row.schema is None:
        installable = row is not None and row.available
        raise UnknownState(
            "The extension pg_stat_statements is not installed, so statements are not counted."
            if installable
            else "This server does not have the extension pg_stat_statements.",
            remedy="As a superuser, in this database: CREATE EXTENSION pg_stat_statements"
            if installable
            else "Install PostgreSQL's contrib package on the server",
        )
    counts = Statement("ops.statements", STATEMENTS.format(schema=row.schema))
    since = Statement("ops.statements_since", SINCE.format(schema=row.schema))
    with statements_loaded():
        rows, reset = counts.all(connection, {}), since.one(connection, {})
    if reset is None:
        raise UnknownState("The start of pg_stat_statements' counters is unknown.")
    return StatementStatistics(
        since=reset.stats_reset,
        by_name={
            row.name: StatementCounters(calls=row.calls, total_ms=row.total_ms, max_ms=row.max_ms, rows=row.rows)
            for row in rows
        },
    )


def read_table_sizes(connection: Connection) -> list[TableSize]:
    """Read the sizes of this database's tables, the largest first."""
    return [
        TableSize(name=row.name, rows=None if row.rows < 0 else row.rows, bytes=row.bytes, index_bytes=row.index_bytes)
        for row in TABLE_SIZES.all(connection, {})
    ]


def database_bytes(connection: Connection) -> int:
    """Return the size of this database on disk."""
    row = DATABASE_SIZE.one(connection, {})
    return int(row.bytes) if row is not None else 0
