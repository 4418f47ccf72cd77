"""Thresholds of autovacuum with which it hardly ever runs, for the server and for Parley's tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.setting_sources import read_settings
from ops.levels import Level


@dataclass(frozen=True, slots=True)
class Limit:
    """The highest sensible value of a setting, in its unit, and what happens above it."""

    name: str
    maximum: float
    effect: str


_VACUUM = "dead rows stay and slow down every read"
_ANALYZE = "queries are planned with old statistics"
LIMITS = (
    Limit("autovacuum_analyze_scale_factor", 0.5, _ANALYZE),
    Limit("autovacuum_analyze_threshold", 100_000, _ANALYZE),
    Limit("autovacuum_freeze_max_age", 1_000_000_000, "transaction ids may run out"),
    Limit("autovacuum_multixact_freeze_max_age", 1_000_000_000, "multixact ids may run out"),
    Limit("autovacuum_naptime", 3600, _VACUUM),  # seconds
    Limit("autovacuum_vacuum_cost_delay", 50, _VACUUM),  # milliseconds
    Limit("autovacuum_vacuum_insert_scale_factor", 2, "index-only scans read the table"),
    Limit("autovacuum_vacuum_insert_threshold", 10_000_000, "index-only scans read the table"),
    Limit("autovacuum_vacuum_scale_factor", 0.5, _VACUUM),
    Limit("autovacuum_vacuum_threshold", 100_000, _VACUUM),
)
MIN_COST_LIMIT = 50  # of vacuum_cost_limit and autovacuum_vacuum_cost_limit; -1 takes the former's value

OPTIONS = Statement(
    "ops.autovacuum_options",
    """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table, stored.prefix || o.option_name AS option,
       o.option_name AS name, o.option_value AS value
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid
 CROSS JOIN LATERAL (VALUES ('', c.reloptions), ('toast.', toast.reloptions)) AS stored(prefix, options)
 CROSS JOIN LATERAL pg_options_to_table(stored.options) AS o
 WHERE c.relname = ANY (%(tables)s) AND pg_table_is_visible(c.oid) AND o.option_name LIKE 'autovacuum%%'
 ORDER BY 1, 2""",
)


@check("tables.autovacuum", "Does autovacuum run early enough?", severity=Level.WARNING)
def autovacuum(context: CheckContext) -> Iterator[Finding]:
    """Find thresholds, pauses and costs of autovacuum that keep it from running in time."""
    names = [*(limit.name for limit in LIMITS), "vacuum_cost_limit", "autovacuum_vacuum_cost_limit"]
    for setting in read_settings(context.connection, names):
        if (effect := effect_of(setting.name, setting.value)) is not None:
            yield Finding(
                level=Level.WARNING,
                message=f"{setting.name} is {setting.value} for all tables: {effect}.",
                object=setting.name,
                evidence={"default": setting.default, "set_by": setting.source},
                remedy=setting.remedy(f"Set {setting.name} to its default or another suitable value"),
                sql=setting.change(setting.default),
            )
    for row in OPTIONS.all(context.connection, {"tables": [*Base.metadata.tables]}):
        if (effect := effect_of(row.name, row.value)) is not None:
            yield Finding(
                level=Level.WARNING,
                message=f"{row.option} of {row.sql_table} is {row.value}: {effect}.",
                object=f"{row.sql_table} {row.option}",
                evidence={"table": row.sql_table, row.option: row.value},
                remedy="Reset it, so that the server's value applies",
                sql=f"ALTER TABLE {row.sql_table} RESET ({row.option});",
            )


def effect_of(name: str, value: str) -> str | None:
    """Return what this value of a setting or an option causes; None if it is sensible."""
    try:
        number = float(value)
    except ValueError:  # autovacuum_enabled
        return None
    if name.endswith("cost_limit"):
        return "vacuum takes very long" if 0 < number < MIN_COST_LIMIT else None
    return next((limit.effect for limit in LIMITS if limit.name == name and number > limit.maximum), None)
