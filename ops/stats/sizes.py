"""The present sizes of tables and their indexes."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from app.repositories.statement import Statement
from ops.stats.counters import database_bytes

# The size of an exclusively locked table is not read, because that would wait for the lock.
TABLES = Statement(
    "ops.sizes_of_tables",
    """
WITH tables AS MATERIALIZED (
    SELECT c.oid, c.relname, c.reltuples, c.reltoastrelid,
           EXISTS (SELECT FROM pg_locks l
                    WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock' AND l.granted
                      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                      AND l.pid <> pg_backend_pid()) AS locked
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'm') AND pg_table_is_visible(c.oid)
       AND n.nspname NOT IN ('pg_catalog', 'information_schema'))
SELECT oid::int8 AS oid, relname AS name, reltuples::int8 AS rows, locked,
       CASE WHEN NOT locked THEN pg_table_size(oid) END AS bytes,
       CASE WHEN NOT locked AND reltoastrelid <> 0 THEN pg_total_relation_size(reltoastrelid) ELSE 0 END AS toast_bytes,
       CASE WHEN NOT locked THEN pg_indexes_size(oid) END AS index_bytes
  FROM tables""",
)
INDEXES = Statement(
    "ops.sizes_of_indexes",
    """
SELECT i.indrelid::int8 AS table_oid, c.relname AS name, pg_total_relation_size(c.oid) AS bytes, i.indisvalid AS valid,
       coalesce(s.idx_scan, 0)::int8 AS scans
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = i.indexrelid
 WHERE i.indrelid = ANY (%(tables)s::oid[]) AND c.relkind = 'i'
 ORDER BY pg_total_relation_size(c.oid) DESC, c.relname""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSizeOfTable:
    """One index of a table."""

    index: Annotated[str, "Name of the index."]
    bytes: Annotated[int, "Size."]
    scans: Annotated[int, "Scans since the statistics were reset."]
    valid: Annotated[bool, "False if its creation failed or is in progress."]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAndIndexSize:
    """One table with its indexes. Sizes of a table that is exclusively locked are null."""

    table: Annotated[str, "Name of the table."]
    rows: Annotated[int | None, "The planner's estimate of rows; null before the first ANALYZE."]
    total_bytes: Annotated[int | None, "Size with TOAST and indexes."]
    table_bytes: Annotated[int | None, "Size without TOAST and indexes."]
    toast_bytes: Annotated[int | None, "Size of TOAST, which holds long values."]
    index_bytes: Annotated[int | None, "Size of all its indexes."]
    indexes: Annotated[tuple[IndexSizeOfTable, ...], "Its indexes, the largest first."]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizesReport:
    """The present size of the database, of its tables and of their indexes."""

    database_bytes: Annotated[int, "Size of the database, catalogs included."]
    tables: Annotated[tuple[TableAndIndexSize, ...], "The tables, the largest first."]


def read_sizes(connection: Connection) -> SizesReport:
    """Read the present sizes of this database's tables and indexes."""
    rows = TABLES.all(connection, {})
    indexes: dict[int, list[IndexSizeOfTable]] = defaultdict(list)
    for row in INDEXES.all(connection, {"tables": [row.oid for row in rows if not row.locked]}):
        indexes[row.table_oid].append(
            IndexSizeOfTable(index=row.name, bytes=row.bytes, scans=row.scans, valid=row.valid)
        )
    tables = [
        TableAndIndexSize(
            table=row.name,
            rows=None if row.rows < 0 else row.rows,
            total_bytes=None if row.locked else row.bytes + row.index_bytes,
            table_bytes=None if row.locked else row.bytes - row.toast_bytes,
            toast_bytes=None if row.locked else row.toast_bytes,
            index_bytes=row.index_bytes,
            indexes=tuple(indexes[row.oid]),
        )
        for row in rows
    ]
    tables.sort(key=lambda size: (-(size.total_bytes or 0), size.table))
    return SizesReport(database_bytes=database_bytes(connection), tables=tuple(tables))
