"""Foreign keys whose own columns no index serves: to delete a row that they could point to, the table is read whole.

What PostgreSQL asks then is `key1 = $1 AND key2 = $2`. So an index serves if these are its first columns, in any order,
and it knows the operator of the constraint under the collation of the column. A partial index serves only if its
condition follows from that question; of the ones it could have, that is `key IS NOT NULL`, because `=` is never true of
null. The planner sees that too, also for the plan that it keeps for all values.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.extensions import Base
from app.repositories.statement import Statement
from ops.checks.indexes.cases import PLAN, Case, case, findings
from ops.checks.indexes.reading import Index, Reading, new_name, read
from ops.checks.indexes.steps import CONCURRENT_READS, Lock, Step
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

CHECK = "indexes.foreign_keys"
NAME_BYTES = 63

# One row for each key of each table with rows of its own: a partition answers for itself. `root` is the same for all
# partitions that have a constraint from their parent.
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
    """One foreign key of one table. `families` are, for each column, those that know its operator."""

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
        """`families` gives the family of an operator class."""
        count = len(self.attributes)
        leading = index.attributes[: min(count, index.key_count)]
        if not index.serves or index.table_oid != self.table_oid or sorted(leading) != sorted(self.attributes):
            return False
        if index.method not in ("btree", "hash") or not self._implies(index.predicate):
            return False
        for n, attribute in enumerate(leading):
            at = self.attributes.index(attribute)
            if families.get(index.classes[n]) not in self.families[at]:
                return False
            if index.collations[n] != self.collations[at]:
                return False
        return True

    def _implies(self, predicate: str | None) -> bool:
        """Whether every row that the key could be looked for in meets `predicate`: it says of columns of the key that
        they are not null, and nothing else."""
        if predicate is None:
            return True
        known = {f"{name} IS NOT NULL" for name in self.sql_names}
        return all(part.strip("() ") in known for part in re.split(r"\bAND\b", predicate))


def foreign_keys(probe: Probe) -> Iterator[Finding]:
    """Every foreign key that no index serves; of a partitioned table one finding, with its partitions counted."""
    reading = read(probe)
    yield from findings(cases(probe, reading))
    yield from reading.unread()


def cases(probe: Probe, reading: Reading) -> Iterator[Case]:
    keys = list(keys_of(probe))
    families = families_of(probe)
    open_keys: dict[int, list[ForeignKey]] = {}
    for key in keys:
        if key.sql_table not in reading.locked and not any(
            key.is_served_by(index, families) for index in reading.of(key.table_oid)
        ):
            open_keys.setdefault(key.root, []).append(key)
    taken = {index.name for index in reading.indexes}
    for group in open_keys.values():
        yield _case(group, taken)


def keys_of(probe: Probe) -> Iterable[ForeignKey]:
    """All foreign keys."""
    for row in KEYS.all(probe.connection, {}):
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in row._mapping.items()
        }
        values["families"] = tuple(frozenset(map(int, re.findall(r"\d+", each))) for each in row.families)
        yield ForeignKey(**values)


def families_of(probe: Probe) -> dict[int, int]:
    """The family of each operator class."""
    return {row.oid: row.family for row in FAMILIES.all(probe.connection, {})}


def _case(group: list[ForeignKey], taken: set[str]) -> Case:
    key, columns = group[0], ", ".join(group[0].sql_names)
    evidence = {
        "table": key.sql_root_table,
        "constraint": key.name,
        "columns": list(key.names),
        "references": key.sql_referenced,
        "rows": round(sum(max(each.rows, 0) for each in group)),
    }
    partitioned = key.root_kind == "p"
    where = f"{len(group)} partitions of {key.sql_root_table}" if partitioned else key.sql_table
    what = (
        f"No index serves the foreign key {key.name} of {where}: to delete a row of {key.sql_referenced}, all of it is"
        " read."
    )
    if partitioned:
        return case(
            Level.WARNING,
            what,
            {**evidence, "partitions": [each.sql_table for each in group]},
            sql=f"CREATE INDEX ON {key.sql_root_table} ({columns});",
            remedy="It blocks writes while it is built: better build it CONCURRENTLY on each partition first, and then"
            " on the parent.",
        )
    name = _name(key, taken)
    step = Step(
        check=CHECK,
        why="",
        table=key.sql_table,
        index=f"{key.sql_schema}.{name}",
        sql=(f"CREATE INDEX CONCURRENTLY {name} ON {key.sql_table} ({columns})",),
        undo=(f"DROP INDEX CONCURRENTLY {key.sql_schema}.{name}",),
        lock=Lock.BUILD,
        table_bytes=key.bytes,
        index_bytes=0,
        reads_bytes=CONCURRENT_READS * key.bytes,
        disk_bytes=key.bytes // 2,
        tablespace=key.tablespace,
        ours=key.is_visible and key.table in Base.metadata.tables,
        owned=key.is_owned,
    )
    return case(Level.WARNING, what, evidence, step=step, remedy=PLAN)


def _name(key: ForeignKey, taken: set[str]) -> str:
    """`ix_table_columns`, cut to what a name may be; with a number behind it while that is taken."""
    full = f"ix_{key.table}_{'_'.join(key.names)}"
    for number in range(len(taken) + 1):
        tail = f"_{number}" if number else ""
        name = full.encode()[: NAME_BYTES - len(tail)].decode(errors="ignore") + tail
        if name not in taken:
            return new_name(name)
    raise AssertionError("more names are taken than there are indexes")
