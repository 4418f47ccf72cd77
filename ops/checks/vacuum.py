"""Whether dead rows are cleaned up: what autovacuum is told to leave alone, and where it does not keep up."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from app.extensions import Base
from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.checks.statistics_age import counting_since
from ops.checks.wraparound import HOLDERS
from ops.findings import Finding
from ops.levels import Level
from ops.words import size

DEAD_ROWS, DEAD_SHARE = 10_000, 0.4  # beyond both, of all rows; autovacuum comes at 0.2 of those that live

# What was counted may be younger than the table; then what the planner believes says more of its size.
# What is kept aside of a table (TOAST) can be left alone by itself. Who is vacuumed at this moment is being helped.
TABLES = Statement(
    "ops.dead_rows",
    """
SELECT c.relname AS name, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table,
       pg_table_is_visible(c.oid) AS is_visible, off.options, s.n_dead_tup AS dead,
       greatest(s.n_live_tup, c.reltuples::int8 - s.n_dead_tup, 0) AS live,
       greatest(s.last_vacuum, s.last_autovacuum) AS vacuumed_at, s.n_ins_since_vacuum AS inserted,
       c.relpages::int8 * current_setting('block_size')::int AS bytes
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_stat_all_tables s ON s.relid = c.oid
  LEFT JOIN pg_class aside ON aside.oid = c.reltoastrelid
 CROSS JOIN LATERAL (
       SELECT array_agg(prefix || option_name ORDER BY prefix) AS options
         FROM (SELECT '' AS prefix, c.reloptions AS options UNION ALL SELECT 'toast.', aside.reloptions) AS each
        CROSS JOIN LATERAL pg_options_to_table(each.options)
        WHERE option_name = 'autovacuum_enabled' AND NOT option_value::bool) AS off
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.relid = c.oid)
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                                             AND e.deptype = 'e')
 ORDER BY s.n_dead_tup DESC, 2""",
)


def vacuum(probe: Probe) -> Iterator[Finding]:
    """A finding for each table of ours that autovacuum leaves alone, and each one that is full of dead rows.

    Raises `CannotJudge` where PostgreSQL does not count them.
    """
    rows = TABLES.all(probe.connection, {})
    for row in rows:
        if row.options and row.is_visible and row.name in Base.metadata.tables:
            yield Finding(
                level=Level.WARNING,
                what=f"autovacuum is told to leave {row.sql_table} alone: its dead rows stay until somebody comes.",
                evidence=_evidence(row),
                remedy="Unless somebody vacuums it by a clock of their own: let autovacuum have it again",
                sql=f"ALTER TABLE {row.sql_table} RESET ({', '.join(row.options)});",
            )
    since = counting_since(probe)
    for row in rows:
        if row.dead >= DEAD_ROWS and row.dead > DEAD_SHARE * (row.live + row.dead):
            holders = {holder.who: holder.age for holder in HOLDERS.all(probe.connection, {})}
            yield Finding(
                level=Level.WARNING,
                what=f"{row.dead:,} of {row.live + row.dead:,} rows of {row.sql_table} ({size(row.bytes)}) are dead:"
                " autovacuum does not keep up.",
                evidence={**_evidence(row), "counted_since": since, "held_back_by": holders},
                remedy="See first that nothing holds it back: flask ops doctor --only transactions,replication. Then"
                " vacuum it; reads and writes go on"
                if holders
                else "Vacuum it; reads and writes go on. If that recurs, give autovacuum more: autovacuum_max_workers,"
                " autovacuum_vacuum_cost_limit",
                sql=f"VACUUM (ANALYZE) {row.sql_table};",
            )


def _evidence(row: Row[Any]) -> dict[str, Any]:
    return {
        "table": row.sql_table,
        "dead_rows": row.dead,
        "live_rows": row.live,
        "vacuumed_at": row.vacuumed_at,
        "left_alone": row.options or [],
    }
