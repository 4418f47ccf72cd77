"""What PostgreSQL's catalogue says of the indexes, read once for each check.

Nothing here waits for anybody: what a session holds locked exclusively is left out and named, because the functions
that write a definition out take a lock of their own. Temporary tables, and what belongs to an extension, are nobody's
to mend here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from app.extensions import Base
from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

# Held, or waited for: whoever comes later queues behind the one that waits.
_LOCKED = """
locked AS (
    SELECT DISTINCT relation FROM pg_locks
     WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""

# What the system made for itself, also what it keeps aside (TOAST), has an oid below 16384.
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
    """One key column, or its expression: what has to be equal for two indexes to order alike."""

    text: str
    operators: int  # oid of the operator class
    collation: int  # oid, 0 for a type that has none
    option: int  # bit 0: descending, bit 1: nulls first
    settings: str | None  # of the operator class


@dataclass(frozen=True)
class Index:
    """One row of `pg_index`, with its names. Sizes are in bytes; `changed_by` is a transaction's number."""

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
        """The columns that it is searched by, in order."""
        return tuple(
            Key(self.columns[n], self.classes[n], self.collations[n], self.options[n], self.class_options[n])
            for n in range(self.key_count)
        )

    @property
    def included(self) -> frozenset[str]:
        """The columns that it only carries along."""
        return frozenset(self.columns[self.key_count :])

    @property
    def serves(self) -> bool:
        """Whether queries may use it."""
        return self.is_valid and self.is_ready and self.is_live

    @property
    def is_ours(self) -> bool:
        """Whether its table is one of Parley's models, and the one that Parley sees under that name."""
        return self.is_visible and self.main_table in Base.metadata.tables

    @property
    def is_partitioned(self) -> bool:
        return self.table_kind == "p"

    @property
    def is_toast(self) -> bool:
        return self.table_kind == "t"

    @property
    def rebuild(self) -> str | None:
        """The statement that builds it anew while it goes on serving; None where PostgreSQL has none."""
        return None if self.is_exclusion else f"REINDEX INDEX CONCURRENTLY {self.sql_name}"

    @property
    def definition_concurrently(self) -> str:
        """Its definition, to be built without holding up writes."""
        head, separator, rest = self.definition.partition(" INDEX ")
        return f"{head}{separator}CONCURRENTLY {rest}"


@dataclass(frozen=True)
class Reading:
    """The indexes, and the tables whose indexes could not be looked at because somebody holds them locked."""

    indexes: tuple[Index, ...]
    locked: tuple[str, ...]

    def of(self, table_oid: int) -> list[Index]:
        """Those of one table."""
        return [index for index in self.indexes if index.table_oid == table_oid]

    def unread(self) -> Iterator[Finding]:
        """What has to be said of the locked ones: nothing was judged."""
        for table in self.locked:
            yield Finding(
                level=Level.UNKNOWN,
                what=f"The indexes of {table} could not be read: a session holds it locked, or waits to.",
                evidence={"table": table},
                remedy="flask ops locks",
            )


def read(probe: Probe) -> Reading:
    """All indexes but those of the system's own tables."""
    statement = INDEXES_15 if probe.version < 16 else INDEXES
    indexes, locked = [], set()
    for row in statement.all(probe.connection, {}):
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
    return Reading(tuple(indexes), tuple(sorted(locked)))


def new_name(name: str) -> str:
    """A name that we give, as SQL takes it. It begins with a prefix of ours, so it is no keyword."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
