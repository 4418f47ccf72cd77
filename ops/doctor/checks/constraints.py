"""Constraints that are not enforced: never validated, disabled, missing, or different from the declared ones."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row

import app.models  # noqa: F401  # so that all tables are known
from app.models import Base
from app.repositories.statement import Statement
from app.services.health import expected_revision
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.declared_conditions import declared_conditions
from ops.doctor.revision import CURRENT, revision_of
from ops.doctor.table_locations import LOCATIONS, SEVERAL_SCHEMAS, schemas_in_use
from ops.doctor.unexpected_constraints import find_unexpected
from ops.errors import UnknownState
from ops.levels import Level

_NAMED = """quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS sql_table, t.relname AS table,
       quote_ident(c.conname) AS sql_name, c.conname AS name"""

# Constraints NOT ENFORCED (PostgreSQL 18) are only a problem on Parley's tables.
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

# A foreign key is enforced by triggers on both of its tables.
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
# Foreign keys are enforced only if this is `origin`. `reset_val` is the value at the start of each session.
ROLE = Statement(
    "ops.replication_role",
    "SELECT reset_val AS role FROM pg_settings WHERE name = 'session_replication_role'",
)

EXISTING_TABLES = Statement(
    "ops.existing_tables",
    """
SELECT named.name FROM unnest(%(tables)s::text[]) AS named(name)
  JOIN pg_class c ON c.oid = to_regclass(quote_ident(named.name)) AND c.relkind IN ('r', 'p')""",
)

_LITERAL = re.compile(r"('(?:[^']|'')*')")
_CAST = re.compile(r"::\s*\"?[a-z_]+\"?(?: varying| precision)?(?:\(\d+\))?(?: with(?:out)? time zone)?(?:\[\])*")
_WORD = re.compile(r"[a-z_][a-z0-9_]*|\d+")
_REWRITTEN = {"in", "any", "array", "and", "between", "check", "not", "valid"}


@check("tables.constraints", "Does every declared constraint exist, enforced and validated?", severity=Level.CRITICAL)
def check_constraints(context: CheckContext) -> Iterator[Finding]:
    """Find constraints that are not validated or not enforced, and declared CHECK constraints that are missing.

    Raises `UnknownState` for the declared ones if the database is at another revision.
    """
    row = ROLE.one(context.connection, {})
    if row is not None and row.role not in (None, "origin"):
        yield Finding(
            level=Level.CRITICAL,
            message=f"session_replication_role is {row.role} for this role: foreign keys are not enforced.",
            object="session_replication_role",
            evidence={"session_replication_role": row.role},
            remedy="Where is it set, and why? SELECT * FROM pg_db_role_setting shows it; reset it there, and restart"
            " all clients",
        )
    yield from _disabled(context)
    rows = (CONSTRAINTS_17 if context.version < 18 else CONSTRAINTS).all(context.connection, {})
    yield from _not_enforced(rows)
    if (revision := revision_of(context)) not in (None, expected_revision()):
        raise UnknownState(
            f"The database is at revision {revision}, so the models' constraints cannot be compared.", remedy=CURRENT
        )
    if len(schemas_in_use(LOCATIONS.all(context.connection, {"names": [*Base.metadata.tables]}))) > 1:
        raise UnknownState(SEVERAL_SCHEMAS, remedy="flask ops doctor --only migrations.drift")
    tables = {row.name for row in EXISTING_TABLES.all(context.connection, {"tables": [*Base.metadata.tables]})}
    yield from _undeclared(rows, tables)
    yield from find_unexpected(context)


def _disabled(context: CheckContext) -> Iterator[Finding]:
    holders: dict[str, list[Row[Any]]] = {}
    for row in DISABLED.all(context.connection, {}):
        holders.setdefault(row.sql_holder, []).append(row)
    for holder, keys in holders.items():
        names = ", ".join(key.sql_name for key in keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        yield Finding(
            level=Level.CRITICAL,
            message=f"The triggers of {holder} are disabled, so {names} is not enforced: invalid rows are accepted.",
            object=holder,
            evidence={"table": holder, "constraints": [f"{key.sql_table} {key.sql_name}" for key in keys]},
            remedy="Enable them. Which rows were accepted since? To find them, drop each constraint, add it NOT"
            " VALID and validate it",
            sql=f"ALTER TABLE {holder} ENABLE TRIGGER ALL;",
        )


def _not_enforced(rows: Sequence[Row[Any]]) -> Iterator[Finding]:
    for row in rows:
        evidence = {"table": row.sql_table, "definition": row.definition, "rows": round(max(row.rows, 0))}
        is_own = row.is_visible and row.table in Base.metadata.tables
        if not row.is_enforced and is_own:
            yield Finding(
                level=Level.CRITICAL,
                message=f"{row.sql_name} of {row.sql_table}, one of Parley's tables, is NOT ENFORCED.",
                object=f"{row.sql_table} {row.sql_name}",
                evidence=evidence,
                remedy="Replace it by an enforced one and validate it: that fails if a row violates it",
                sql=f"ALTER TABLE {row.sql_table} DROP CONSTRAINT {row.sql_name}, ADD CONSTRAINT {row.sql_name}"
                f" {row.definition.replace(' NOT ENFORCED', '')} NOT VALID;\n"
                f"ALTER TABLE {row.sql_table} VALIDATE CONSTRAINT {row.sql_name};",
            )
        elif row.is_enforced and not row.is_validated and not row.is_attached:
            yield Finding(
                level=Level.WARNING,
                message=f"{row.sql_name} of {row.sql_table} was never validated: older rows may violate it.",
                object=f"{row.sql_table} {row.sql_name}",
                evidence=evidence,
                remedy="Validate it: that scans the table while reads and writes continue, and fails if a row violates"
                " it",
                sql=f"ALTER TABLE {row.sql_table} VALIDATE CONSTRAINT {row.sql_name};",
            )


def _undeclared(rows: Sequence[Row[Any]], tables: set[str]) -> Iterator[Finding]:
    """Compare the models' CHECK constraints. Foreign keys and columns are compared by `migrations.drift`."""
    existing = {(row.table, row.name): row for row in rows if row.is_visible and row.kind == "c"}
    for (table, name), condition in declared_conditions().items():
        row = existing.get((table, name))
        add = f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID;"
        validate = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"
        if row is None and table in tables:
            yield Finding(
                level=Level.WARNING,
                message=f"{table} lacks its constraint {name}: invalid rows are accepted.",
                object=f"{table} {name}",
                evidence={"declared": condition},
                remedy="Add and validate it: that fails if a row violates it",
                sql=f"{add}\n{validate}",
            )
        elif row is not None and _tokens(row.definition) != _tokens(condition):
            yield Finding(
                level=Level.WARNING,
                message=f"The constraint {name} of {table} differs from the one that Parley's models declare.",
                object=f"{table} {name}",
                evidence={"found": row.definition, "declared": condition},
                remedy="Replace it by the declared one and validate it: that fails if a row violates it",
                sql=f"ALTER TABLE {table} DROP CONSTRAINT {row.sql_name};\n{add}\n{validate}",
            )


def _tokens(condition: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the literals, and the names and numbers of a condition: PostgreSQL rewrites it with the same ones."""
    parts = _LITERAL.split(condition)
    words = " ".join(_CAST.sub("", part.lower()) for part in parts[::2])
    return frozenset(parts[1::2]), frozenset(_WORD.findall(words)) - _REWRITTEN
