"""Tables with their sizes and statistics. Tables under an ACCESS EXCLUSIVE lock have no size."""

from dataclasses import dataclass
from datetime import datetime

from app.models import Base
from app.repositories.statement import Statement
from ops.checks.context import CheckContext

TABLE_STATISTICS = Statement(
    "ops.tables",
    """
WITH locked AS (
    SELECT DISTINCT relation FROM pg_locks
     WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT c.oid, n.nspname AS schema, c.relname AS name,
       quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name,
       c.reltuples AS rows, c.relpages AS pages, pg_has_role(c.relowner, 'USAGE') AS is_owned,
       CASE WHEN l.relation IS NULL THEN pg_relation_size(c.oid) END AS bytes,
       pg_table_is_visible(c.oid) AS is_visible, coalesce(s.seq_scan, 0) AS sequential_scans,
       coalesce(s.seq_tup_read, 0) AS rows_read, coalesce(s.n_live_tup, 0) AS live, coalesce(s.n_dead_tup, 0) AS dead,
       coalesce(s.n_mod_since_analyze, 0) AS changed, greatest(s.last_analyze, s.last_autoanalyze) AS analyzed_at,
       EXISTS (SELECT FROM pg_options_to_table(c.reloptions)
                WHERE option_name = 'autovacuum_enabled' AND NOT option_value::bool) AS autovacuum_disabled
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
  LEFT JOIN locked l ON l.relation = c.oid
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                                             AND e.deptype = 'e')
 ORDER BY n.nspname, c.relname""",
)


@dataclass(frozen=True, slots=True)
class Table:
    """One table or materialized view.

    `rows` is the planner's estimate, -1 before the first ANALYZE; `live` and `dead` are the counters of the statistics;
    `changed` counts rows changed since the last ANALYZE. `bytes` is the size without indexes and TOAST, None if the
    table is locked. `autovacuum_disabled` is its storage option.
    """

    oid: int
    schema: str
    name: str
    sql_name: str
    rows: float
    pages: int
    is_owned: bool
    bytes: int | None
    is_visible: bool
    sequential_scans: int
    rows_read: int
    live: int
    dead: int
    changed: int
    analyzed_at: datetime | None
    autovacuum_disabled: bool

    @property
    def is_parley_table(self) -> bool:
        """Whether it is one of Parley's models, in the schema that Parley's role resolves the name to."""
        return self.is_visible and self.name in Base.metadata.tables


def read_table_statistics(context: CheckContext) -> list[Table]:
    """Read all tables but system tables, temporary ones and those of extensions."""
    return [Table(**row._mapping) for row in TABLE_STATISTICS.all(context.connection, {})]
