"""Whether what was committed outlasts a crash of the server."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

import app.models  # noqa: F401  # so that all tables are known
from app.extensions import Base
from app.repositories.statement import Statement
from ops.checks.connection import pooled
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

# `reset_val` is what every session of this account begins with.
SETTINGS = Statement(
    "ops.durability",
    """
SELECT name, reset_val AS value, source, quote_ident(current_user) AS role,
       quote_ident(current_database()) AS database
  FROM pg_settings
 WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND reset_val = 'off' ORDER BY name""",
)
UNLOGGED = Statement(
    "ops.unlogged",
    """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table, c.reltuples::int8 AS rows
  FROM unnest(%(tables)s::text[]) AS named(name)
  JOIN pg_class c ON c.oid = to_regclass(quote_ident(named.name)) JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence = 'u' ORDER BY 1""",
)
_MEANS = {
    "fsync": "after a crash the whole database may be damaged",
    "full_page_writes": "after a crash single pages may be damaged",
    "synchronous_commit": "a crash loses what was committed in its last half second, answers that people saw included",
}


def durable(probe: Probe) -> Iterator[Finding]:
    """A finding for each setting, and each table of ours, with which a crash of the server loses what was committed."""
    for row in UNLOGGED.all(probe.connection, {"tables": sorted(Base.metadata.tables)}):
        yield Finding(
            level=Level.CRITICAL,
            what=f"{row.sql_table} is unlogged: a crash of the server empties it, and no replica has it.",
            evidence={"rows": max(row.rows, 0)},
            remedy="When few people write: the statement writes the table anew, and stops reads and writes meanwhile",
            sql=f"ALTER TABLE {row.sql_table} SET LOGGED;",
        )
    with pooled(probe) as connection:  # the application's account may have settings of its own
        rows = SETTINGS.all(connection, {})
    for row in rows:
        yield Finding(
            level=Level.CRITICAL,
            what=f"{row.name} is off: {_MEANS[row.name]}.",
            evidence={row.name: row.value, "set_by": row.source},
            remedy="Switch it on; new connections have it then",
            sql=_switched_on(row),
        )


def _switched_on(row: Row[Any]) -> str:
    """Where it was set there it has to be taken back: a nearer value wins."""
    whose = {
        "database": f"DATABASE {row.database}",
        "user": f"ROLE {row.role}",
        "database user": f"ROLE {row.role} IN DATABASE {row.database}",
    }.get(row.source)
    if whose:
        return f"ALTER {whose} RESET {row.name};"
    return f"ALTER SYSTEM SET {row.name} = on;\nSELECT pg_reload_conf();"
