"""Foreign keys without a supporting index: deleting a referenced row scans the whole table.

PostgreSQL then searches for `key1 = $1 AND key2 = $2`. An index supports that if these are its first columns, in any
order, with the operator of the constraint and the collation of the column. A partial index supports it only if its
condition follows from the search: `key IS NOT NULL` does, because `=` is never true for null. The planner applies that
for generic plans too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.indexes.findings import PLAN, IndexFinding, index_finding, without_steps
from ops.indexes.snapshot import Index, IndexSnapshot, quoted_name, read_indexes
from ops.indexes.steps import CONCURRENT_READS, Step, StepLock
from ops.levels import Level

CHECK = "indexes.foreign_keys"
NAME_BYTES = 63

# One row for each key of each table that stores rows, so one for each partition. `root` is the same for all partitions
# that inherit a constraint.
KEYS = Statement(
    "ops.foreign_keys",
    """
WITH RECURSIVE up AS (
    SELECT oid, oid AS root, conparentid FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
    UNION ALL
    SELECT c.oid, up.root, c.conparentid FROM pg_constraint c JOIN up ON c.conparentid = up.oid)
SELECT c.oid, up.root, c.conname AS name, c.conrelid AS table_oid, t.relname AS table,
       quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS sql_table, quote_ident(n.nspname) AS sql_schema,
       quote_ident(rn.nspname) || '.' || quote_ident(r.relname) AS sql_root_table, r.relkind AS root_kind,
       quote_ident(pn.nspname) || '.' || quote_ident(p.relname) AS sql_referenced, c.conkey AS attributes,
       a.names, a.sql_names, a.collations, o.families, pg_table_is_visible(t.oid) AS is_visible,
       pg_has_role(t.relowner, 'USAGE') AS is_owned, t.relpages::bigint * 8192 AS bytes, t.reltuples AS rows,
       d.dattablespace AS tablespace
  FROM pg_constraint c
  JOIN up ON up.oid = c.oid
  JOIN pg_constraint rc ON rc.oid = up.root
  JOIN pg_class t ON t.oid = c.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_class r ON r.oid = rc.conrelid
  JOIN pg_namespace rn ON rn.oid = r.relnamespace
  JOIN pg_class p ON p.oid = rc.confrelid
  JOIN pg_namespace pn ON pn.oid = p.relnamespace
  JOIN pg_database d ON d.datname = current_database()
  JOIN LATERAL (
       SELECT array_agg(a.attname::text ORDER BY k.n) AS names,
              array_agg(quote_ident(a.attname) ORDER BY k.n) AS sql_names,
              array_agg(a.attcollation ORDER BY k.n) AS collations
         FROM unnest(c.conkey) WITH ORDINALITY AS k(attribute, n)
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attribute) a ON true
  JOIN LATERAL (
       SELECT array_agg(ARRAY(SELECT amop.amopfamily::int8 FROM pg_operator op
                                JOIN pg_amop amop ON amop.amopopr IN (op.oid, op.oprcom)
                               WHERE op.oid = k.operator)::text ORDER BY k.n) AS families
         FROM unnest(c.conpfeqop) WITH ORDINALITY AS k(operator, n)) o ON true
 WHERE c.contype = 'f' AND t.relkind = 'r' AND t.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = t.oid
                                             AND e.deptype = 'e')
 ORDER BY n.nspname, t.relname, c.conname""",
)
FAMILIES = Statement("ops.operator_families", "SELECT oid, opcfamily AS family FROM pg_opclass")


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One foreign key of one table. `families` are the operator families that have its operator, for each column."""

    oid: int
    root: int
    name: str
    table_oid: int
    table: str
    sql_table: str
    sql_schema: str
    sql_root_table: str
    root_kind: str
    sql_referenced: str
    attributes: tuple[int, ...]
    names: tuple[str, ...]
    sql_names: tuple[str, ...]
    collations: tuple[int, ...]
    families: tuple[frozenset[int], ...]
    is_visible: bool
    is_owned: bool
    bytes: int
    rows: float
    tablespace: int

    def is_served_by(self, index: Index, families: Mapping[int, int]) -> bool:
        """Return whether `index` supports the key. `families` maps operator classes to their families."""
        count = len(self.attributes)
        leading = index.attributes[: min(count, index.key_count)]
        if not index.is_usable or index.table_oid != self.table_oid or sorted(leading) != sorted(self.attributes):
            return False
        if index.method not in ("btree", "hash") or not self._implies(index.predicate):
            return False
        for position, attribute in enumerate(leading):
            own = self.attributes.index(attribute)
            if families.get(index.classes[position]) not in self.families[own]:
                return False
            if index.collations[position] != self.collations[own]:
                return False
        return True

    def _implies(self, predicate: str | None) -> bool:
        """Return whether `predicate` holds for every row with this key: it only excludes nulls of key columns."""
        if predicate is None:
            return True
        known = {f"{name} IS NOT NULL" for name in self.sql_names}
        return all(part.strip("() ") in known for part in re.split(r"\bAND\b", predicate))


@check(CHECK, "Are there foreign keys without a supporting index?", severity=Level.WARNING)
def foreign_keys(context: CheckContext) -> Iterator[Finding]:
    """Find foreign keys without a supporting index; one finding for a partitioned table."""
    snapshot = read_indexes(context)
    yield from without_steps(index_findings(context, snapshot))
    yield from snapshot.unreadable()


def index_findings(context: CheckContext, snapshot: IndexSnapshot) -> Iterator[IndexFinding]:
    """Find the keys without a supporting index, with a step that creates it."""
    families = read_families(context)
    unsupported: dict[int, list[ForeignKey]] = {}
    for key in read_keys(context):
        indexes = snapshot.of(key.table_oid)
        if key.sql_table not in snapshot.locked and not any(key.is_served_by(index, families) for index in indexes):
            unsupported.setdefault(key.root, []).append(key)
    taken = {index.name for index in snapshot.indexes}
    for partitions in unsupported.values():
        yield _finding(partitions, taken)


def read_keys(context: CheckContext) -> Iterable[ForeignKey]:
    """Read all foreign keys."""
    for row in KEYS.all(context.connection, {}):
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row._mapping.items()
        }
        values["families"] = tuple(frozenset(map(int, re.findall(r"\d+", oids))) for oids in row.families)
        yield ForeignKey(**values)


def read_families(context: CheckContext) -> dict[int, int]:
    """Read the operator family of each operator class."""
    return {row.oid: row.family for row in FAMILIES.all(context.connection, {})}


def _finding(partitions: list[ForeignKey], taken: set[str]) -> IndexFinding:
    key, columns = partitions[0], ", ".join(partitions[0].sql_names)
    evidence = {
        "table": key.sql_root_table,
        "constraint": key.name,
        "columns": list(key.names),
        "references": key.sql_referenced,
        "rows": round(sum(max(partition.rows, 0) for partition in partitions)),
    }
    is_partitioned = key.root_kind == "p"
    table = f"{len(partitions)} partitions of {key.sql_root_table}" if is_partitioned else key.sql_table
    message = (
        f"No index supports the foreign key {key.name} of {table}: deleting a row of {key.sql_referenced} scans all of"
        " it."
    )
    if is_partitioned:
        return index_finding(
            Level.WARNING,
            message,
            {**evidence, "partitions": [partition.sql_table for partition in partitions]},
            sql=f"CREATE INDEX ON {key.sql_root_table} ({columns});",
            remedy="Can writes wait while it builds? If not, create the index CONCURRENTLY on each partition first",
        )
    name = _name(key, taken)
    step = Step(
        check=CHECK,
        reason="",
        table=key.sql_table,
        index=f"{key.sql_schema}.{name}",
        sql=(f"CREATE INDEX CONCURRENTLY {name} ON {key.sql_table} ({columns})",),
        undo=(f"DROP INDEX CONCURRENTLY {key.sql_schema}.{name}",),
        lock=StepLock.BUILD,
        table_bytes=key.bytes,
        index_bytes=0,
        reads_bytes=CONCURRENT_READS * key.bytes,
        disk_bytes=key.bytes // 2,
        tablespace=key.tablespace,
        is_parley_table=key.is_visible and key.table in Base.metadata.tables,
        is_owner=key.is_owned,
    )
    return index_finding(Level.WARNING, message, evidence, step=step, remedy=PLAN)


def _name(key: ForeignKey, taken: set[str]) -> str:
    """Return `ix_table_columns`, cut to the maximum length, with a number if the name is taken."""
    full = f"ix_{key.table}_{'_'.join(key.names)}"
    for number in range(len(taken) + 1):
        tail = f"_{number}" if number else ""
        name = full.encode()[: NAME_BYTES - len(tail)].decode(errors="ignore") + tail
        if name not in taken:
            return quoted_name(name)
    raise AssertionError("unreachable: one of these names is free")
