"""The planner's statistics: missing, out of date, or switched off."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.checks.statistics_age import counting_since
from ops.indexes.findings import PLAN, IndexFinding, index_finding, without_steps
from ops.indexes.steps import Step, StepLock
from ops.indexes.tables import Table, read_table_statistics
from ops.levels import Level

CHECK = "tables.statistics"
CHURN = 0.25  # share of rows changed since the last ANALYZE; autovacuum analyzes at 0.1
MIN_ROWS = 1_000  # smaller tables are planned well without statistics
LARGE_BYTES = 10_000_000
COUNTED_FOR = timedelta(days=1)

AUTOVACUUM = Statement("ops.autovacuum", "SELECT current_setting('autovacuum')::bool AS is_on, now() AS now")

# Columns with the statistics target 0.
IGNORED = Statement(
    "ops.ignored_columns",
    """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_table,
       array_agg(quote_ident(a.attname) ORDER BY a.attnum) AS columns
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attstattarget = 0 AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm', 'p')
   AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                                             AND e.deptype = 'e')
 GROUP BY 1 ORDER BY 1""",
)


@check(CHECK, "Are the planner's statistics up to date?", severity=Level.WARNING)
def statistics(context: CheckContext) -> Iterator[Finding]:
    """Find tables whose statistics are missing, out of date or switched off, and autovacuum switched off.

    Raises `UnknownState` if PostgreSQL does not count changed rows.
    """
    since = counting_since(context)
    (server,) = AUTOVACUUM.all(context.connection, {})
    if not server.is_on:
        yield Finding(
            level=Level.WARNING,
            message="autovacuum is off: nothing is vacuumed or analyzed automatically.",
            remedy="Switch it on",
            object="autovacuum",
            sql="ALTER SYSTEM SET autovacuum = on;\nSELECT pg_reload_conf();",
        )
    for row in IGNORED.all(context.connection, {}):
        resets = ", ".join(f"ALTER COLUMN {column} SET STATISTICS -1" for column in row.columns)
        yield Finding(
            level=Level.WARNING,
            message=f"The statistics target of {', '.join(row.columns)} of {row.sql_table} is 0: ANALYZE skips them,"
            " and queries are planned with default estimates.",
            object=row.sql_table,
            evidence={"table": row.sql_table, "columns": row.columns},
            remedy="Is there a reason for it? If not, reset the target",
            sql=f"ALTER TABLE {row.sql_table} {resets};\nANALYZE {row.sql_table};",
        )
    yield from without_steps(index_findings(context))
    if since > server.now - COUNTED_FOR:
        for table in read_table_statistics(context):
            if table.rows >= 0 and table.analyzed_at is None and (table.bytes or 0) >= LARGE_BYTES:
                yield Finding(
                    level=Level.UNKNOWN,
                    message=f"How much of {table.sql_name} changed since its last ANALYZE is unknown: PostgreSQL"
                    f" has counted only since {since:%Y-%m-%d %H:%M} UTC.",
                    object=table.sql_name,
                    evidence={"table": table.sql_name, "counted_since": since},
                    remedy="ANALYZE it",
                    sql=f"ANALYZE {table.sql_name};",
                )


def index_findings(context: CheckContext) -> Iterator[IndexFinding]:
    """Find the tables that need an ANALYZE, with the step that runs it."""
    for table in read_table_statistics(context):
        reason = _reason(table)
        if reason is None:
            continue
        evidence = {
            "table": table.sql_name,
            "rows_believed": table.rows,
            "rows_counted": table.live,
            "changed": table.changed,
            "analyzed_at": table.analyzed_at,
            "autovacuum_disabled": table.autovacuum_disabled,
        }
        step = Step(
            check=CHECK,
            reason=reason,
            table=table.sql_name,
            index="",
            sql=(f"ANALYZE {table.sql_name}",),
            undo=(),
            lock=StepLock.SCAN,
            table_bytes=table.bytes or 0,
            index_bytes=0,
            reads_bytes=min(table.bytes or 0, 300 * 100 * 8192),  # ANALYZE reads a sample of pages
            is_parley_table=table.is_parley_table,
            is_owner=table.is_owned,
        )
        remedy = PLAN
        if table.autovacuum_disabled:
            remedy += (
                f". Is autovacuum disabled on purpose? If not: ALTER TABLE {table.sql_name} RESET (autovacuum_enabled)"
            )
        yield index_finding(Level.WARNING, reason, evidence, step=step, remedy=remedy)


def _reason(table: Table) -> str | None:
    if table.bytes is None:
        return None
    counted = max(table.live, table.changed)
    if table.rows < 0 and (counted >= MIN_ROWS or table.bytes >= LARGE_BYTES):
        return f"{table.sql_name} was never analyzed: its queries are planned with default estimates."
    total = max(table.live, table.rows, 1)  # the counters may have begun after the table was filled
    if table.rows >= 0 and table.changed >= MIN_ROWS and table.changed > CHURN * total:
        share = 100 * table.changed / total
        return f"{table.changed} rows of {table.sql_name} changed since its last ANALYZE, {share:.0f}% of all."
    return None
