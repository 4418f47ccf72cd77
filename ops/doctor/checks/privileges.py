"""The privileges of the roles in both database URLs."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row

import app.models  # noqa: F401  # so that all tables are known
from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.doctor.checks.connection import pooled
from ops.levels import Level

NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE")
INHERIT_OPTION_SINCE = 16  # PostgreSQL's GRANT ... WITH INHERIT
READ_ONLY_TABLE = "alembic_version"  # read by the health check

MISSING = Statement(
    "ops.missing_privileges",
    """
SELECT quote_ident(current_user) AS role, found.name, array_agg(wanted.privilege ORDER BY wanted.place) AS privileges
  FROM (SELECT to_regclass(quote_ident(name)) AS oid, quote_ident(name) AS name
          FROM unnest(%(tables)s::text[]) AS named(name)) AS found
 CROSS JOIN unnest(%(needed)s::text[]) WITH ORDINALITY AS wanted(privilege, place)
 WHERE found.oid IS NOT NULL AND NOT has_table_privilege(found.oid, wanted.privilege)
 GROUP BY 1, 2 ORDER BY 2""",
)
# Tables whose row-level security policies apply to this role.
HIDDEN = Statement(
    "ops.hidden_rows",
    """
SELECT quote_ident(current_user) AS role, quote_ident(name) AS name FROM unnest(%(tables)s::text[]) AS named(name)
 WHERE to_regclass(quote_ident(name)) IS NOT NULL AND row_security_active(to_regclass(quote_ident(name))::oid)
 ORDER BY 2""",
)
# Only the owner can alter a table or build an index on it. Membership in a superuser's role would give all its power.
NOT_OWNED = Statement(
    "ops.not_owned",
    """
SELECT quote_ident(me.rolname) AS role, me.rolinherit AS inherits, quote_ident(o.rolname) AS owner,
       o.rolsuper OR o.rolcreaterole OR o.rolbypassrls OR o.rolreplication AS is_powerful,
       c.relname AS name, quote_ident(n.nspname) AS sql_schema,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name
  FROM unnest(%(tables)s::text[]) AS named(name) JOIN pg_class c ON c.oid = to_regclass(quote_ident(named.name))
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles o ON o.oid = c.relowner JOIN pg_roles me ON me.rolname = current_user
 WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY owner, name""",
)
# Schemas with Parley's tables that a connection looks into, and may not use: it does not see their tables.
NO_USAGE = Statement(
    "ops.no_schema_usage",
    """
SELECT DISTINCT quote_ident(current_user) AS role, quote_ident(n.nspname) AS sql_schema
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = ANY (%(tables)s) AND c.relkind IN ('r', 'p') AND NOT has_schema_privilege(n.oid, 'USAGE')
   AND n.nspname = ANY (string_to_array(replace(replace(current_setting('search_path'), '"', ''), ' ', ''), ','))
 ORDER BY 2""",
)


@check("connection.privileges", "Does Parley's role have the privileges it needs?", severity=Level.CRITICAL)
def privileges(context: CheckContext) -> Iterator[Finding]:
    """Find missing privileges of the application's role, and tables that the direct URL's role does not own."""
    tables = sorted(Base.metadata.tables)
    with pooled(context) as connection:
        yield from _without_usage(connection, tables)
        yield from _missing(connection, tables, NEEDED)
        yield from _missing(connection, [READ_ONLY_TABLE], NEEDED[:1])
        yield from _hidden(connection, tables)
    not_owned = NOT_OWNED.all(context.connection, {"tables": tables})
    for owner in dict.fromkeys(row.owner for row in not_owned):
        yield _not_owned([row for row in not_owned if row.owner == owner], context.version)


def _not_owned(rows: Sequence[Row[Any]], version: int) -> Finding:
    """Return the finding for tables of one owner. The statement never makes a role a member of a powerful one."""
    role, owner, names = rows[0].role, rows[0].owner, [row.name for row in rows]
    if rows[0].is_powerful:
        remedy = (
            f"{owner} has more power than the application needs, so do not grant it. As a superuser: let {role} own the"
            " tables"
        )
        schemas = dict.fromkeys(row.sql_schema for row in rows)
        statements = [f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};" for schema in schemas]
        statements += [f"ALTER TABLE {row.sql_name} OWNER TO {role};" for row in rows]
    else:
        remedy = f"Let DATABASE_DIRECT_URL name {owner}, or make {role} a member of it"
        inherit = " WITH INHERIT TRUE" if version >= INHERIT_OPTION_SINCE else ""
        statements = [f"GRANT {owner} TO {role}{inherit};"]
        if version < INHERIT_OPTION_SINCE and not rows[0].inherits:
            statements.insert(0, f"ALTER ROLE {role} INHERIT;")
    return Finding(
        level=Level.WARNING,
        message=f"The role {role} does not own {_join(names)}: it cannot migrate them or repair their indexes.",
        object=f"{role} owner {owner}",
        evidence={"role": role, "owner": owner, "tables": names},
        remedy=remedy,
        sql="\n".join(statements),
    )


def _without_usage(connection: Connection, tables: list[str]) -> Iterator[Finding]:
    for row in NO_USAGE.all(connection, {"tables": [*tables]}):
        yield Finding(
            level=Level.CRITICAL,
            message=f"The role {row.role} may not use the schema {row.sql_schema}: it does not see Parley's tables.",
            object=f"{row.role} {row.sql_schema}",
            evidence={"role": row.role, "schema": row.sql_schema},
            remedy="As the schema's owner, grant its use",
            sql=f"GRANT USAGE ON SCHEMA {row.sql_schema} TO {row.role};",
        )


def _missing(connection: Connection, tables: list[str], needed: Sequence[str]) -> Iterator[Finding]:
    rows = MISSING.all(connection, {"tables": [*tables], "needed": list(needed)})
    if not rows:
        return
    missing = sorted({privilege for row in rows for privilege in row.privileges}, key=NEEDED.index)
    names = [row.name for row in rows]
    yield Finding(
        level=Level.CRITICAL,
        message=f"The role {rows[0].role} lacks {', '.join(missing)} on {_join(names)}.",
        object=f"{rows[0].role} {' '.join(missing)}",
        evidence={row.name: row.privileges for row in rows},
        remedy="As the tables' owner, grant them to the role of DATABASE_URL",
        sql=f"GRANT {', '.join(missing)} ON {', '.join(names)} TO {rows[0].role};",
    )


def _hidden(connection: Connection, tables: list[str]) -> Iterator[Finding]:
    if rows := HIDDEN.all(connection, {"tables": [*tables]}):
        names = [row.name for row in rows]
        yield Finding(
            level=Level.CRITICAL,
            message=f"Row-level security hides rows of {_join(names)} from the role {rows[0].role}.",
            object=rows[0].role,
            evidence={"role": rows[0].role, "tables": names},
            remedy="Disable it: Parley isolates its users itself, and a backup needs every row",
            sql="\n".join(
                f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;" for name in names
            ),
        )


def _join(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} tables"
