"""Constraints of Parley's tables that no model declares: they may refuse rows, or the deletion of rows."""

from collections.abc import Iterator
from functools import cache

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.findings import Finding
from ops.doctor.declared_conditions import declared_conditions
from ops.indexes.declared import declared_indexes
from ops.indexes.snapshot import Index, quoted_name, read_indexes
from ops.levels import Level

# CHECK constraints of Parley's tables, and foreign keys of other tables that reference these.
UNEXPECTED = Statement(
    "ops.unexpected_constraints",
    """
WITH own AS (
    SELECT oid, relname FROM pg_class
     WHERE relkind IN ('r', 'p') AND relname = ANY (%(tables)s) AND pg_table_is_visible(oid))
SELECT c.contype AS kind, quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS sql_table,
       quote_ident(c.conname) AS sql_name, c.conname AS name, pg_get_constraintdef(c.oid) AS definition
  FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE c.conparentid = 0
   AND ((c.contype = 'c' AND c.conrelid IN (SELECT oid FROM own) AND NOT c.conname = ANY (%(checks)s))
        OR (c.contype = 'f' AND c.confrelid IN (SELECT oid FROM own) AND c.conrelid NOT IN (SELECT oid FROM own)))
 ORDER BY 2, 3""",
)
DECIDE = "Who created it, and does anything need it? If not, drop it"


def find_unexpected(context: CheckContext) -> Iterator[Finding]:
    """Find undeclared CHECK constraints, unique indexes and exclusion constraints, and foreign keys of other tables."""
    names = [name for _, name in declared_conditions()]
    for row in UNEXPECTED.all(context.connection, {"tables": [*Base.metadata.tables], "checks": names}):
        if row.kind == "f" and row.name in _foreign_key_names():
            continue  # one of Parley's tables under another name, which `migrations.drift` reports
        effect = (
            f"{row.sql_table} has the constraint {row.sql_name}, which no model declares: it may refuse rows."
            if row.kind == "c"
            else f"{row.sql_table} references one of Parley's tables by {row.sql_name}: deleting and erasing may fail."
        )
        yield Finding(
            level=Level.WARNING,
            message=effect,
            object=f"{row.sql_table} {row.sql_name}",
            evidence={"definition": row.definition},
            remedy=DECIDE,
            sql=f"ALTER TABLE {row.sql_table} DROP CONSTRAINT {row.sql_name};",
        )
    for index in read_indexes(context).indexes:
        if _refuses_rows(index):
            yield _index_finding(index)


@cache
def _foreign_key_names() -> frozenset[str]:
    return frozenset(
        str(constraint.name) for table in Base.metadata.tables.values() for constraint in table.foreign_key_constraints
    )


def _refuses_rows(index: Index) -> bool:
    if not index.is_parley_table or index.is_toast or not index.is_ready:
        return False
    if not (index.is_unique or index.is_exclusion):
        return False
    declared = [each for each in declared_indexes().values() if each.table == index.table]
    return not any(each.name == index.name or each.is_like(index) for each in declared)


def _index_finding(index: Index) -> Finding:
    drop = (
        f"ALTER TABLE {index.sql_table} DROP CONSTRAINT {quoted_name(index.constraint)};"
        if index.constraint
        else f"DROP INDEX CONCURRENTLY {index.sql_name};"
    )
    return Finding(
        level=Level.WARNING,
        message=f"{index.sql_name} of {index.sql_table} is {'unique' if index.is_unique else 'an exclusion constraint'}"
        " that no model declares: it may refuse rows.",
        object=f"{index.sql_table} {index.sql_plain_name}",
        evidence={"definition": index.definition, "valid": index.is_valid},
        remedy=DECIDE,
        sql=drop,
    )
