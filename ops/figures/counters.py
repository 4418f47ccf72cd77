"""What PostgreSQL has counted of our statements, and how large our tables are, at this moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.repositories.statement import Statement
from ops.findings import CannotJudge

OTHERS = "other"  # statements without a name of ours
UNSEEN = "hidden"  # those of another account, which this one is not shown

HAS = Statement(
    "ops.has_statements",
    """
SELECT quote_ident(n.nspname) AS schema,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements') AS available
  FROM (SELECT 1) AS one LEFT JOIN pg_extension e ON e.extname = 'pg_stat_statements'
  LEFT JOIN pg_namespace n ON n.oid = e.extnamespace""",
)
# Statements are gathered under the name in the comment that they begin with; nothing else of their text is read.
STATEMENTS = r"""
SELECT coalesce(substring(s.query from '/\* ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?: rid=[^ ]+)? \*/'),
                CASE WHEN s.query = '<insufficient privilege>' THEN 'hidden' ELSE 'other' END) AS name,
       sum(s.calls)::int8 AS calls, sum(s.total_exec_time)::float8 AS total_ms, max(s.max_exec_time)::float8 AS max_ms,
       sum(s.rows)::int8 AS rows
  FROM {schema}.pg_stat_statements s
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
 GROUP BY 1 ORDER BY 3 DESC"""
SINCE = "SELECT stats_reset FROM {schema}.pg_stat_statements_info"
# With indexes, and what is kept aside. -1 rows: nobody has counted them yet. What is locked exclusively is left out:
# its size cannot be asked for without waiting.
TABLES = Statement(
    "ops.table_sizes",
    """
SELECT c.relname AS name, c.reltuples::int8 AS rows,
       pg_table_size(c.oid) AS bytes, pg_indexes_size(c.oid) AS index_bytes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND pg_table_is_visible(c.oid) AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock' AND l.granted
                                            AND l.pid <> pg_backend_pid())
 ORDER BY pg_table_size(c.oid) + pg_indexes_size(c.oid) DESC""",
)
DATABASE = Statement("ops.database_size", "SELECT pg_database_size(current_database()) AS bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Calls of the statements of one name. `max_ms` is the longest since `StatementCounts.since`."""

    calls: int
    total_ms: float
    max_ms: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementCounts:
    """What pg_stat_statements holds, by our names, counted since that moment."""

    since: datetime
    by_name: Mapping[str, Counted]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """One table. `rows` is what the planner believes; None where nobody has counted them yet."""

    name: str
    rows: int | None
    bytes: int
    index_bytes: int


def read_statements(connection: Connection) -> StatementCounts:
    """Raises `CannotJudge` where pg_stat_statements is not to be had."""
    row = HAS.one(connection, {})
    if row is None or row.schema is None:
        there = row is not None and row.available
        raise CannotJudge(
            "The extension pg_stat_statements is not installed, so nobody counts statements."
            if there
            else "This server does not have the extension pg_stat_statements.",
            remedy="As a superuser, in this database: CREATE EXTENSION pg_stat_statements"
            if there
            else "Install PostgreSQL's contrib package on the server",
        )
    counts = Statement("ops.statements", STATEMENTS.format(schema=row.schema))
    since = Statement("ops.statements_since", SINCE.format(schema=row.schema))
    try:
        rows, begun = counts.all(connection, {}), since.one(connection, {})
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != "55000":
            raise
        raise CannotJudge(
            "pg_stat_statements is installed, and the server does not load it.",
            remedy="Set shared_preload_libraries = 'pg_stat_statements' and restart PostgreSQL",
        ) from error
    if begun is None:
        raise CannotJudge("pg_stat_statements does not say since when it counts.")
    return StatementCounts(
        since=begun.stats_reset,
        by_name={
            row.name: Counted(calls=row.calls, total_ms=row.total_ms, max_ms=row.max_ms, rows=row.rows) for row in rows
        },
    )


def read_tables(connection: Connection) -> list[TableSize]:
    """The tables of this database, the largest first."""
    return [
        TableSize(name=row.name, rows=None if row.rows < 0 else row.rows, bytes=row.bytes, index_bytes=row.index_bytes)
        for row in TABLES.all(connection, {})
    ]


def database_bytes(connection: Connection) -> int:
    """How much this database takes on the disk."""
    row = DATABASE.one(connection, {})
    return int(row.bytes) if row is not None else 0
