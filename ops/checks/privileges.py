"""What the accounts of the two URLs may do."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

import app.models  # noqa: F401  # so that all tables are known
from app.extensions import Base
from app.repositories.statement import Statement
from ops.checks.connection import pooled
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE")
READ = "alembic_version"  # so that it is known whether the code fits

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
# A policy without which rows are not seen, and cannot be written.
HIDDEN = Statement(
    "ops.hidden_rows",
    """
SELECT quote_ident(current_user) AS role, quote_ident(name) AS name FROM unnest(%(tables)s::text[]) AS named(name)
 WHERE to_regclass(quote_ident(name)) IS NOT NULL AND row_security_active(to_regclass(quote_ident(name))::oid)
 ORDER BY 2""",
)
# Whoever is no owner can neither alter a table nor build an index on it.
NOT_OWNED = Statement(
    "ops.not_owned",
    """
SELECT quote_ident(current_user) AS role, c.relname AS name, quote_ident(pg_get_userbyid(c.relowner)) AS owner
  FROM unnest(%(tables)s::text[]) AS named(name) JOIN pg_class c ON c.oid = to_regclass(quote_ident(named.name))
 WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 2""",
)


def privileges(probe: Probe) -> Iterator[Finding]:
    """What the application may not do and must, and whether the account for operations owns the tables."""
    tables = sorted(Base.metadata.tables)
    with pooled(probe) as connection:
        yield from _missing(connection, tables, NEEDED)
        yield from _missing(connection, [READ], NEEDED[:1])
        yield from _hidden(connection, tables)
    if others := NOT_OWNED.all(probe.connection, {"tables": tables}):
        role, owner = others[0].role, others[0].owner
        yield Finding(
            level=Level.WARNING,
            what=f"The account {role} does not own {_named([row.name for row in others])}: it cannot migrate, nor mend "
            "an index.",
            evidence={"role": role, "owner": owner, "tables": [row.name for row in others]},
            remedy=f"Let DATABASE_DIRECT_URL name {owner}, or make {role} a member of it",
            sql=f"GRANT {owner} TO {role}",
        )


def _missing(connection: Connection, tables: list[str], needed: Sequence[str]) -> Iterator[Finding]:
    rows = MISSING.all(connection, {"tables": [*tables], "needed": list(needed)})
    if not rows:
        return
    lacking = sorted({privilege for row in rows for privilege in row.privileges}, key=NEEDED.index)
    names = [row.name for row in rows]
    yield Finding(
        level=Level.CRITICAL,
        what=f"The account {rows[0].role} lacks {', '.join(lacking)} on {_named(names)}.",
        evidence={row.name: row.privileges for row in rows},
        remedy="As the tables' owner, give them to the account of DATABASE_URL",
        sql=f"GRANT {', '.join(lacking)} ON {', '.join(names)} TO {rows[0].role}",
    )


def _hidden(connection: Connection, tables: list[str]) -> Iterator[Finding]:
    if rows := HIDDEN.all(connection, {"tables": [*tables]}):
        names = [row.name for row in rows]
        yield Finding(
            level=Level.CRITICAL,
            what=f"Row level security hides rows of {_named(names)} from the account {rows[0].role}.",
            evidence={"role": rows[0].role, "tables": names},
            remedy="Parley keeps its users apart by itself, and a backup needs every row: switch it off",
            sql="\n".join(
                f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;" for name in names
            ),
        )


def _named(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} tables"
