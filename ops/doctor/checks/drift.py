"""The schema compared with the models: tables, columns, foreign keys, triggers, rules and inheritance.

Indexes are compared by the checks of `indexes`, CHECK constraints by `tables.constraints`. Tables of other applications
are ignored.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row

import app.models  # noqa: F401  # so that the metadata is complete
from app.models import Base
from app.repositories.statement import Statement
from app.services.health import expected_revision
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.declared_triggers import declared_triggers
from ops.doctor.revision import CURRENT, revision_of
from ops.doctor.schema_differences import Difference, find_differences
from ops.doctor.table_locations import LOCATIONS, SEVERAL_SCHEMAS, schemas_in_use
from ops.errors import UnknownState
from ops.levels import Level

# Triggers and rules on Parley's tables, without those of foreign keys and those that Parley declares.
UNEXPECTED_TRIGGERS = Statement(
    "ops.unexpected_triggers",
    """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table, found.kind, found.name, found.definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT 'trigger' AS kind, quote_ident(t.tgname) AS name, pg_get_triggerdef(t.oid) AS definition
         FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal
          AND (c.relname, t.tgname, f.proname) NOT IN (
              SELECT * FROM unnest(%(tables)s::text[], %(triggers)s::text[], %(functions)s::text[]))
       UNION ALL
       SELECT 'rule', quote_ident(r.rulename), pg_get_ruledef(r.oid)
         FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN') AS found
 WHERE c.relkind IN ('r', 'p') AND c.relname = ANY (%(names)s) AND pg_table_is_visible(c.oid)
 ORDER BY 1, 2, 3""",
)
# Tables that inherit from Parley's tables, or from which these inherit: a query of the parent reads both.
INHERITANCE = Statement(
    "ops.inheritance",
    """
SELECT quote_ident(cn.nspname) || '.' || quote_ident(c.relname) AS child,
       quote_ident(pn.nspname) || '.' || quote_ident(p.relname) AS parent, c.reltuples::int8 AS rows,
       p.relkind = 'p' AS is_partition
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
  JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
 WHERE c.relkind IN ('r', 'p', 'f')
   AND ((p.relname = ANY (%(names)s) AND pg_table_is_visible(p.oid))
        OR (c.relname = ANY (%(names)s) AND pg_table_is_visible(c.oid)))
 ORDER BY 1, 2""",
)


@check("migrations.drift", "Does the schema match the models?", severity=Level.CRITICAL)
def drift(context: CheckContext) -> Iterator[Finding]:
    """Find what differs from the models.

    Raises `UnknownState` if the database is at another revision, or if the tables are in several schemas.
    """
    if revision_of(context) != expected_revision():
        raise UnknownState(
            "The database is not at the revision of this code, so it cannot be compared with the models.",
            remedy=CURRENT,
        )
    names = {"names": [*Base.metadata.tables]}
    locations = LOCATIONS.all(context.connection, names)
    if len(schemas := schemas_in_use(locations)) > 1:
        yield _several_schemas(schemas, locations)
        raise UnknownState(SEVERAL_SCHEMAS, remedy="flask ops doctor --only migrations.drift shows which to rename")
    for difference in find_differences(context.connection):
        yield _difference(difference)
    own = [*declared_triggers()]
    declared = {
        "tables": [each.table for each in own],
        "triggers": [each.name for each in own],
        "functions": [each.function for each in own],
    }
    for row in UNEXPECTED_TRIGGERS.all(context.connection, names | declared):
        yield Finding(
            level=Level.WARNING,
            message=f"{row.sql_table} has the {row.kind} {row.name}, which no model declares: it may change or discard"
            " writes.",
            object=f"{row.sql_table} {row.kind} {row.name}",
            evidence={"definition": row.definition},
            remedy="Who created it, and does anything need it? If not, drop it",
            sql=f"DROP {row.kind.upper()} {row.name} ON {row.sql_table};",
        )
    for row in INHERITANCE.all(context.connection, names):
        if not row.is_partition:
            yield _inherits(row)


def _difference(difference: Difference) -> Finding:
    return Finding(
        level=Level.CRITICAL if difference.breaks_requests else Level.WARNING,
        message=difference.message,
        object=difference.object,
        evidence=difference.evidence,
        remedy=difference.remedy,
        sql=difference.sql,
    )


def _inherits(row: Row[Any]) -> Finding:
    return Finding(
        level=Level.WARNING,
        message=f"{row.child} inherits from {row.parent}: queries of {row.parent} also read and delete its rows, which"
        " have no keys and indexes of Parley.",
        object=f"{row.child} {row.parent}",
        evidence={"rows": max(row.rows, 0)},
        remedy="Who created it, and where do its rows belong? Detach it; its rows stay in it",
        sql=f"ALTER TABLE {row.child} NO INHERIT {row.parent};",
    )


def _several_schemas(schemas: list[str], locations: Sequence[Row[Any]]) -> Finding:
    home: str = max(schemas, key=lambda schema: sum(row.is_visible and row.sql_schema == schema for row in locations))
    others = [row for row in locations if row.is_visible and row.sql_schema != home]
    return Finding(
        level=Level.CRITICAL,
        message=f"Of Parley's tables, {', '.join(row.name for row in others)} is read from the schema"
        f" {others[0].sql_schema}, and the rest from {home}: DB_SEARCH_PATH has that schema first.",
        object=others[0].sql_schema,
        evidence={"search_path": others[0].search_path, "found": [f"{row.sql_schema}.{row.name}" for row in others]},
        remedy="Which copy has the rows, and since when? Move the rows to one, and rename the other",
        sql="\n".join(f"ALTER TABLE {row.sql_schema}.{row.name} RENAME TO {row.name}_unused;" for row in others),
    )
