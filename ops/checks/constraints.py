"""Constraints that were added NOT VALID: nobody ever looked whether the rows from before keep to them."""

from collections.abc import Iterator

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

# Of a constraint that PostgreSQL 18 is told not to enforce, nothing is to be expected.
_UNVALIDATED = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS sql_table, quote_ident(c.conname) AS sql_name,
       c.contype AS kind, pg_get_constraintdef(c.oid) AS definition, t.reltuples AS rows
  FROM pg_constraint c
  JOIN pg_class t ON t.oid = c.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE NOT c.convalidated AND c.conparentid = 0 {enforced}
   AND t.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = t.oid
                                             AND e.deptype = 'e')
 ORDER BY n.nspname, t.relname, c.conname"""
UNVALIDATED_17 = Statement("ops.unvalidated", _UNVALIDATED.format(enforced=""))
UNVALIDATED = Statement("ops.unvalidated", _UNVALIDATED.format(enforced="AND c.conenforced"))


def unvalidated(probe: Probe) -> Iterator[Finding]:
    """Every constraint that was never validated."""
    statement = UNVALIDATED_17 if probe.version < 18 else UNVALIDATED
    for row in statement.all(probe.connection, {}):
        yield Finding(
            level=Level.WARNING,
            what=f"{row.sql_name} of {row.sql_table} was never validated: rows from before may break it.",
            evidence={"table": row.sql_table, "definition": row.definition, "rows": round(max(row.rows, 0))},
            remedy="Validate it: that reads the table and lets reads and writes go on. It fails if a row breaks it",
            sql=f"ALTER TABLE {row.sql_table} VALIDATE CONSTRAINT {row.sql_name};",
        )
