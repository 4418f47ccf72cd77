"""Vacuum: tables with autovacuum disabled, and tables with many dead rows."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.statistics_age import counting_since
from ops.doctor.checks.wraparound import HOLDERS
from ops.formatting import format_size
from ops.levels import Level

DEAD_ROWS, DEAD_SHARE = 10_000, 0.4  # reported if both are exceeded; autovacuum vacuums at 0.2 of the live rows

# The counters may have begun after the table was filled; then the planner's estimate is higher. TOAST tables have
# their own autovacuum options. Tables being vacuumed now are excluded.
DEAD_ROW_COUNTS = Statement(
    "ops.dead_rows",
    """
SELECT c.relname AS name, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table,
       pg_table_is_visible(c.oid) AS is_visible, off.options, s.n_dead_tup AS dead,
       greatest(s.n_live_tup, c.reltuples::int8 - s.n_dead_tup, 0) AS live,
       greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at, s.n_ins_since_vacuum AS inserted,
       c.relpages::int8 * current_setting('block_size')::int AS bytes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_stat_all_tables s ON s.relid = c.oid
  LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid
 CROSS JOIN LATERAL (
       SELECT array_agg(prefix || option_name ORDER BY prefix) AS options
         FROM (SELECT '' AS prefix, c.reloptions AS options UNION ALL SELECT 'toast.', toast.reloptions) AS stored
        CROSS JOIN LATERAL pg_options_to_table(stored.options)
        WHERE option_name = 'autovacuum_enabled' AND NOT option_value::bool) AS off
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v
                    WHERE v.relid = c.oid AND v.datname = current_database())
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                                             AND e.deptype = 'e')
 ORDER BY s.n_dead_tup DESC, 2""",
)


@check("tables.vacuum", "Does vacuum keep up with dead rows?", severity=Level.WARNING)
def vacuum(context: CheckContext) -> Iterator[Finding]:
    """Find Parley's tables with autovacuum disabled, and tables with many dead rows.

    Raises `UnknownState` if PostgreSQL does not count dead rows.
    """
    rows = DEAD_ROW_COUNTS.all(context.connection, {})
    for row in rows:
        if row.options and row.is_visible and row.name in Base.metadata.tables:
            yield Finding(
                level=Level.WARNING,
                message=f"autovacuum is disabled for {row.sql_table}: its dead rows are not removed automatically.",
                object=f"{row.sql_table} autovacuum",
                evidence=_evidence(row),
                remedy="Is the table vacuumed on another schedule? If not, enable it",
                sql=f"ALTER TABLE {row.sql_table} RESET ({', '.join(row.options)});",
            )
    since = counting_since(context)
    for row in rows:
        if row.dead >= DEAD_ROWS and row.dead > DEAD_SHARE * (row.live + row.dead):
            holders = {holder.name: holder.age for holder in HOLDERS.all(context.connection, {})}
            yield Finding(
                level=Level.WARNING,
                message=f"{row.dead:,} of {row.live + row.dead:,} rows of {row.sql_table} ({format_size(row.bytes)})"
                " are dead: autovacuum does not keep up.",
                object=row.sql_table,
                evidence={**_evidence(row), "counted_since": since, "held_back_by": holders},
                remedy="What holds vacuum back (flask ops doctor --only transactions,replication)? End that first, then"
                " vacuum; reads and writes continue"
                if holders
                else "Vacuum it; reads and writes continue. Does it recur? Then raise autovacuum_max_workers or"
                " autovacuum_vacuum_cost_limit",
                sql=f"VACUUM (ANALYZE) {row.sql_table};",
            )


def _evidence(row: Row[Any]) -> dict[str, Any]:
    return {
        "table": row.sql_table,
        "dead_rows": row.dead,
        "live_rows": row.live,
        "vacuumed_at": row.vacuumed_at,
        "autovacuum_disabled": row.options or [],
    }
