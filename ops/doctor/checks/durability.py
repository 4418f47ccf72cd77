"""Durability: whether committed transactions survive a crash of the server."""

from collections.abc import Iterator

import app.models  # noqa: F401  # so that all tables are known
from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.setting_sources import read_settings
from ops.doctor.checks.connection import pooled
from ops.levels import Level

UNLOGGED = Statement(
    "ops.unlogged",
    """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table, c.reltuples::int8 AS rows
  FROM unnest(%(tables)s::text[]) AS named(name)
  JOIN pg_class c ON c.oid = to_regclass(quote_ident(named.name)) JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence = 'u' ORDER BY 1""",
)
_EFFECTS = {
    "fsync": "a crash may damage the whole database",
    "full_page_writes": "a crash may damage single pages",
    "ignore_checksum_failure": "damaged pages are read, and the damage spreads to what is written",
    "zero_damaged_pages": "the rows of a damaged page disappear without an error",
    "synchronous_commit": "a crash loses the commits of the last half second, such as answers that users have seen",
}
_GOOD = {"ignore_checksum_failure": "off", "zero_damaged_pages": "off"}  # on for the others


@check("storage.durable", "Do committed transactions survive a server crash?", severity=Level.CRITICAL)
def durable(context: CheckContext) -> Iterator[Finding]:
    """Find settings and unlogged tables of Parley with which a crash loses committed rows."""
    for row in UNLOGGED.all(context.connection, {"tables": sorted(Base.metadata.tables)}):
        yield Finding(
            level=Level.CRITICAL,
            message=f"{row.sql_table} is unlogged: a crash of the server empties it, and replicas do not have it.",
            object=row.sql_table,
            evidence={"rows": max(row.rows, 0)},
            remedy="At a quiet time: the statement rewrites the table, and blocks reads and writes until it ends",
            sql=f"ALTER TABLE {row.sql_table} SET LOGGED;",
        )
    with pooled(context) as connection:  # the application's role may have its own settings
        settings = read_settings(connection, [*_EFFECTS])
    for setting in settings:
        good = _GOOD.get(setting.name, "on")
        if setting.value != {"on": "off", "off": "on"}[good]:
            continue
        yield Finding(
            level=Level.CRITICAL,
            message=f"{setting.name} is {setting.value}: {_EFFECTS[setting.name]}.",
            object=setting.name,
            evidence={setting.name: setting.value, "set_by": setting.source},
            remedy=setting.remedy(f"Switch it {good}"),
            sql=setting.change(good),
        )
