"""The indexes as PostgreSQL's system catalogue has them, read once for each check.

Reading never waits for a lock: pg_get_indexdef and its like take one, so indexes and tables under an ACCESS EXCLUSIVE
lock are skipped and named. Temporary tables and those of extensions are excluded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.findings import Finding
from ops.levels import Level

# Held or waited for: a later request queues behind the one that waits.
_LOCKED = """
locked AS (
    SELECT DISTINCT relation FROM pg_locks
     WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""

# System tables and their TOAST tables have oids below 16384.
_INDEXES = """
WITH {locked}
SELECT i.indexrelid AS oid, i.indrelid AS table_oid, n.nspname AS schema, t.relname AS table, c.relname AS name,
       am.amname AS method, t.relkind AS table_kind, t.relpersistence AS persistence,
       i.indisunique AS is_unique, i.indnullsnotdistinct AS nulls_not_distinct, i.indisprimary AS is_primary,
       i.indisexclusion AS is_exclusion, i.indimmediate AS is_immediate, i.indisclustered AS is_clustered,
       i.indisreplident AS is_replica_identity, i.indisvalid AS is_valid, i.indisready AS is_ready,
       i.indislive AS is_live, i.indnkeyatts AS key_count, i.indkey::int2[] AS attributes,
       i.indclass::oid[] AS classes, i.indcollation::oid[] AS collations, i.indoption::int2[] AS options,
       i.xmin::text AS changed_by, own.conname AS constraint, own.contype AS constraint_kind,
       EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid) AS is_referenced,
       EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid) AS is_attached,
       quote_ident(n.nspname) AS sql_schema, quote_ident(c.relname) AS sql_plain_name,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name,
       quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS sql_table,
       coalesce(toasted.relname, t.relname) AS main_table,
       pg_table_is_visible(coalesce(toasted.oid, t.oid)) AS is_visible, pg_has_role(t.relowner, 'USAGE') AS is_owned,
       t.reltuples AS table_rows, c.reltuples AS rows, c.reloptions AS storage,
       coalesce(nullif(c.reltablespace, 0), d.dattablespace) AS tablespace,
       s.idx_scan AS scans, {last_scan} AS last_scan,
       (SELECT array_agg(a.attoptions::text ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = i.indexrelid) AS class_options,
       l.relation IS NOT NULL AS is_locked,
       CASE WHEN l.relation IS NULL THEN pg_relation_size(i.indexrelid) END AS bytes,
       CASE WHEN l.relation IS NULL THEN pg_relation_size(i.indrelid) END AS table_bytes,
       CASE WHEN l.relation IS NULL THEN pg_get_indexdef(i.indexrelid) END AS definition,
       CASE WHEN l.relation IS NULL THEN pg_get_expr(i.indpred, i.indrelid) END AS predicate,
       CASE WHEN l.relation IS NULL THEN
            (SELECT array_agg(pg_get_indexdef(i.indexrelid, k, false) ORDER BY k)
               FROM generate_series(1, i.indnatts) AS k) END AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_am am ON am.oid = c.relam
  JOIN pg_database d ON d.datname = current_database()
  LEFT JOIN pg_class toasted ON t.relkind = 't' AND toasted.reltoastrelid = t.oid
  LEFT JOIN pg_stat_all_indexes s ON s.indexrelid = i.indexrelid
  LEFT JOIN pg_constraint own ON own.conindid = i.indexrelid AND own.contype IN ('p', 'u', 'x')
  LEFT JOIN LATERAL (SELECT relation FROM locked WHERE relation IN (i.indexrelid, i.indrelid) LIMIT 1) l ON true
 WHERE t.oid >= 16384 AND t.relpersistence <> 't'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = t.oid
                                             AND e.deptype = 'e')
 ORDER BY n.nspname, t.relname, c.relname"""

INDEXES_15 = Statement("ops.indexes", _INDEXES.format(locked=_LOCKED, last_scan="NULL::timestamptz"))
INDEXES = Statement("ops.indexes", _INDEXES.format(locked=_LOCKED, last_scan="s.last_idx_scan"))


@dataclass(frozen=True, slots=True)
class Key:
    """One key column or expression. Two indexes with equal keys have the same order."""

    text: str
    operators: int  # oid of the operator class
    collation: int  # oid, 0 for a type that has none
    option: int  # bit 0: descending, bit 1: nulls first
    settings: str | None  # of the operator class


@dataclass(frozen=True)
class Index:
    """One row of `pg_index`, with names. Sizes are in bytes; `changed_by` is the row's xmin.

    Names that begin with `sql_` are quoted for SQL.
    """

    oid: int
    table_oid: int
    schema: str
    table: str
    name: str
    method: str
    table_kind: str
    persistence: str
    is_unique: bool
    nulls_not_distinct: bool
    is_primary: bool
    is_exclusion: bool
    is_immediate: bool
    is_clustered: bool
    is_replica_identity: bool
    is_valid: bool
    is_ready: bool
    is_live: bool
    key_count: int
    attributes: tuple[int, ...]
    classes: tuple[int, ...]
    collations: tuple[int, ...]
    options: tuple[int, ...]
    changed_by: str
    constraint: str | None
    constraint_kind: str | None
    is_referenced: bool
    is_attached: bool
    sql_schema: str
    sql_plain_name: str
    sql_name: str
    sql_table: str
    main_table: str
    is_visible: bool
    is_owned: bool
    table_rows: float
    rows: float
    storage: tuple[str, ...]
    tablespace: int
    scans: int
    last_scan: datetime | None
    class_options: tuple[str | None, ...]
    bytes: int
    table_bytes: int
    definition: str
    predicate: str | None
    columns: tuple[str, ...]

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The key columns, in order."""
        return tuple(
            Key(self.columns[n], self.classes[n], self.collations[n], self.options[n], self.class_options[n])
            for n in range(self.key_count)
        )

    @property
    def included(self) -> frozenset[str]:
        """The columns of INCLUDE."""
        return frozenset(self.columns[self.key_count :])

    @property
    def is_usable(self) -> bool:
        """Whether queries can use it."""
        return self.is_valid and self.is_ready and self.is_live

    @property
    def is_parley_table(self) -> bool:
        """Whether its table is one of Parley's models, in the schema that Parley's role resolves the name to."""
        return self.is_visible and self.main_table in Base.metadata.tables

    @property
    def is_partitioned(self) -> bool:
        """Whether its table is partitioned."""
        return self.table_kind == "p"

    @property
    def is_toast(self) -> bool:
        """Whether its table is a TOAST table."""
        return self.table_kind == "t"

    @property
    def rebuild(self) -> str | None:
        """The statement that rebuilds it concurrently; None for exclusion constraints, which PostgreSQL cannot."""
        return None if self.is_exclusion else f"REINDEX INDEX CONCURRENTLY {self.sql_name}"

    @property
    def definition_concurrently(self) -> str:
        """Its definition with CONCURRENTLY."""
        head, separator, rest = self.definition.partition(" INDEX ")
        return f"{head}{separator}CONCURRENTLY {rest}"


@dataclass(frozen=True)
class IndexSnapshot:
    """The indexes, and the tables whose indexes could not be read because of a lock."""

    indexes: tuple[Index, ...]
    locked: tuple[str, ...]

    def of(self, table_oid: int) -> list[Index]:
        """Return the indexes of one table."""
        return [index for index in self.indexes if index.table_oid == table_oid]

    def unreadable(self) -> Iterator[Finding]:
        """Yield a finding with the level UNKNOWN for each locked table."""
        for table in self.locked:
            yield Finding(
                level=Level.UNKNOWN,
                message=f"The indexes of {table} were not read: a session holds an exclusive lock, or waits for one.",
                object=table,
                evidence={"table": table},
                remedy="Which session holds it, and for how long? flask ops locks",
            )


def read_indexes(context: CheckContext) -> IndexSnapshot:
    """Read all indexes but those of system tables."""
    statement = INDEXES_15 if context.version < 16 else INDEXES
    indexes, locked = [], set()
    for row in statement.all(context.connection, {}):
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row._mapping.items()
        }
        if values.pop("is_locked") or values["definition"] is None or values["bytes"] is None:
            locked.add(row.sql_table)
            continue
        values["scans"] = values["scans"] or 0
        values["storage"] = values["storage"] or ()
        values["table_bytes"] = values["table_bytes"] or 0
        indexes.append(Index(**values))
    return IndexSnapshot(tuple(indexes), tuple(sorted(locked)))


def quoted_name(name: str) -> str:
    """Quote a name for SQL. Names given here begin with a prefix, so they cannot be keywords."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
