"""Constraints that do not hold what they promise: never validated, switched off, missing, or another than declared."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import CheckConstraint, Row
from sqlalchemy.dialects import postgresql

import app.models  # noqa: F401  # so that all tables are known
from app.extensions import Base
from app.repositories.statement import Statement
from app.services.health import expected_revision
from ops.checks.migrations import CURRENT, revision_of
from ops.checks.probe import Probe
from ops.findings import CannotJudge, Finding
from ops.levels import Level

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own gap

_NAMED = """quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS sql_table, t.relname AS table,
       quote_ident(c.conname) AS sql_name, c.conname AS name"""

# Of somebody else's constraint that PostgreSQL 18 is told not to enforce, nothing is to be expected.
_CONSTRAINTS = """
SELECT {named}, c.contype AS kind, pg_get_constraintdef(c.oid) AS definition, t.reltuples AS rows,
       c.convalidated AS is_validated, {enforced} AS is_enforced, c.conparentid <> 0 AS is_attached,
       pg_table_is_visible(t.oid) AS is_visible
  FROM pg_constraint c
  JOIN pg_class t ON t.oid = c.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE c.contype IN ('c', 'f') AND t.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = t.oid
                                             AND e.deptype = 'e')
 ORDER BY n.nspname, t.relname, c.conname"""
CONSTRAINTS_17 = Statement("ops.constraints", _CONSTRAINTS.format(named=_NAMED, enforced="true"))
CONSTRAINTS = Statement("ops.constraints", _CONSTRAINTS.format(named=_NAMED, enforced="c.conenforced"))

# A foreign key is kept by triggers, on both of its tables.
_DISABLED = """
SELECT {named}, quote_ident(hn.nspname) || '.' || quote_ident(h.relname) AS sql_holder
  FROM pg_trigger g
  JOIN pg_constraint c ON c.oid = g.tgconstraint
  JOIN pg_class t ON t.oid = c.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_class h ON h.oid = g.tgrelid
  JOIN pg_namespace hn ON hn.oid = h.relnamespace
 WHERE g.tgisinternal AND c.contype = 'f' AND g.tgenabled NOT IN ('O', 'A')
 GROUP BY 1, 2, 3, 4, 5 ORDER BY 5, 1, 3"""
DISABLED = Statement("ops.disabled_keys", _DISABLED.format(named=_NAMED))
# Under another value than `origin` no foreign key is kept; with `reset_val` every session of this account begins.
ROLE = Statement(
    "ops.replication_role",
    "SELECT reset_val AS role FROM pg_settings WHERE name = 'session_replication_role'",
)

THERE = Statement(
    "ops.tables_there",
    "SELECT name FROM unnest(%(tables)s::text[]) AS named(name) WHERE to_regclass(quote_ident(name)) IS NOT NULL",
)

_TEXT = re.compile(r"('(?:[^']|'')*')")
_CAST = re.compile(r"::\s*\"?[a-z_]+\"?(?: varying)?(?:\(\d+\))?(?:\[\])*")
_WORD = re.compile(r"[a-z_][a-z0-9_]*|\d+")
_SAID_OTHERWISE = {"in", "any", "array", "and", "between", "check", "not", "valid"}


def unvalidated(probe: Probe) -> Iterator[Finding]:
    """Every constraint that was never validated or is not kept, and every rule of a model that is not there.

    Raises `CannotJudge`, after the others, where the rules cannot be there because the migrations come first.
    """
    row = ROLE.one(probe.connection, {})
    if row is not None and row.role not in (None, "origin"):
        yield Finding(
            level=Level.CRITICAL,
            what=f"session_replication_role is {row.role} for this account: no foreign key is kept.",
            evidence={"session_replication_role": row.role},
            remedy="See who set it, and why: SELECT * FROM pg_db_role_setting; then restart what is connected",
        )
    yield from _disabled(probe)
    rows = (CONSTRAINTS_17 if probe.version < 18 else CONSTRAINTS).all(probe.connection, {})
    yield from _weak(rows)
    if (at := revision_of(probe)) not in (None, expected_revision()):
        raise CannotJudge(
            f"The database is at migration {at}, so whether the models' rules are there cannot be told.", remedy=CURRENT
        )
    yield from _undeclared(rows, {row.name for row in THERE.all(probe.connection, {"tables": [*Base.metadata.tables]})})


def _disabled(probe: Probe) -> Iterator[Finding]:
    holders: dict[str, list[Row[Any]]] = {}
    for row in DISABLED.all(probe.connection, {}):
        holders.setdefault(row.sql_holder, []).append(row)
    for holder, keys in holders.items():
        names = ", ".join(key.sql_name for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        yield Finding(
            level=Level.CRITICAL,
            what=f"The triggers of {holder} are switched off, so nobody keeps {names}: rows that break it are taken.",
            evidence={"table": holder, "constraints": [f"{key.sql_table} {key.sql_name}" for key in keys]},
            remedy="Switch them on again; then drop each constraint, add it NOT VALID, and validate it, to find what"
            " came meanwhile",
            sql=f"ALTER TABLE {holder} ENABLE TRIGGER ALL;",
        )


def _weak(rows: Sequence[Row[Any]]) -> Iterator[Finding]:
    for row in rows:
        evidence = {"table": row.sql_table, "definition": row.definition, "rows": round(max(row.rows, 0))}
        ours = row.is_visible and row.table in Base.metadata.tables
        if not row.is_enforced and ours:
            yield Finding(
                level=Level.CRITICAL,
                what=f"PostgreSQL is told not to enforce {row.sql_name} of {row.sql_table}, one of Parley's tables.",
                evidence=evidence,
                remedy="Drop it, add it NOT VALID as the models declare it, and validate it",
            )
        elif row.is_enforced and not row.is_validated and not row.is_attached:
            yield Finding(
                level=Level.WARNING,
                what=f"{row.sql_name} of {row.sql_table} was never validated: rows from before may break it.",
                evidence=evidence,
                remedy="Validate it: that reads the table and lets reads and writes go on. It fails if a row breaks it",
                sql=f"ALTER TABLE {row.sql_table} VALIDATE CONSTRAINT {row.sql_name};",
            )


def _undeclared(rows: Sequence[Row[Any]], tables: set[str]) -> Iterator[Finding]:
    """The models' CHECK constraints. Their foreign keys and columns are `migrations.drift`'s."""
    there = {(row.table, row.name): row for row in rows if row.is_visible and row.kind == "c"}
    for (table, name), condition in rules().items():
        row = there.get((table, name))
        add = f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID;"
        validate = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"
        if row is None and table in tables:
            yield Finding(
                level=Level.WARNING,
                what=f"{table} lacks its rule {name}: what breaks it is stored.",
                evidence={"declared": condition},
                remedy="See who dropped it; add it, and validate it: that fails if a row breaks it",
                sql=f"{add}\n{validate}",
            )
        elif row is not None and said(row.definition) != said(condition):
            yield Finding(
                level=Level.WARNING,
                what=f"The rule {name} of {table} is another than Parley's models declare under that name.",
                evidence={"found": row.definition, "declared": condition},
                remedy="See who changed it; drop it, add the declared one, and validate it",
                sql=f"ALTER TABLE {table} DROP CONSTRAINT {row.sql_name};\n{add}\n{validate}",
            )


@cache
def rules() -> dict[tuple[str, str], str]:
    """What the models' CHECK constraints say, by table and name."""
    found = {}
    for table in Base.metadata.sorted_tables:
        for constraint in table.constraints:
            if isinstance(constraint, CheckConstraint):
                name = _DIALECT.identifier_preparer.format_constraint(constraint)
                compiled = constraint.sqltext.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
                found[table.name, str(name)] = str(compiled)
    return found


def said(condition: str) -> tuple[frozenset[str], frozenset[str]]:
    """The texts and the names and numbers in it. PostgreSQL writes a condition in its own way, with the same ones."""
    parts = _TEXT.split(condition)
    words = " ".join(_CAST.sub("", part.lower()) for part in parts[::2])
    return frozenset(parts[1::2]), frozenset(_WORD.findall(words)) - _SAID_OTHERWISE
