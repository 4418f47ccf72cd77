"""What the planner knows of the tables: never looked at, or too much has changed since."""

from collections.abc import Iterator
from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.indexes.cases import PLAN, Case, case, findings
from ops.checks.indexes.steps import Lock, Step
from ops.checks.probe import Probe
from ops.checks.statistics_age import counting_since
from ops.checks.tables import Table, read_tables
from ops.findings import Finding
from ops.levels import Level

CHECK = "tables.statistics"
CHURN = 0.25  # of the rows, changed since the last ANALYZE; autovacuum comes at 0.1
LEAST_ROWS = 1_000  # smaller tables are planned well enough without
LARGE_BYTES = 10_000_000
COUNTED_FOR = timedelta(days=1)

AUTOVACUUM = Statement("ops.autovacuum", "SELECT current_setting('autovacuum')::bool AS is_on, now() AS now")

# Columns of which ANALYZE is told to gather nothing.
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


def statistics(probe: Probe) -> Iterator[Finding]:
    """Every table whose statistics are missing, too old or switched off, and autovacuum if it is off.

    Raises `CannotJudge` where PostgreSQL does not count what changes.
    """
    since = counting_since(probe)
    (server,) = AUTOVACUUM.all(probe.connection, {})
    if not server.is_on:
        yield Finding(
            level=Level.WARNING,
            what="autovacuum is off: nothing is vacuumed or analyzed unless somebody does it.",
            remedy="Switch it on",
            sql="ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();",
        )
    for row in IGNORED.all(probe.connection, {}):
        resets = ", ".join(f"ALTER COLUMN {column} SET STATISTICS -1" for column in row.columns)
        yield Finding(
            level=Level.WARNING,
            what=f"ANALYZE is told to look at nothing in {', '.join(row.columns)} of {row.sql_table}: its queries are"
            " planned by guesses.",
            evidence={"table": row.sql_table, "columns": row.columns},
            remedy="Unless somebody knows why: let it look again",
            sql=f"ALTER TABLE {row.sql_table} {resets};\nANALYZE {row.sql_table};",
        )
    yield from findings(cases(probe))
    if since > server.now - COUNTED_FOR:
        for table in read_tables(probe):
            if table.rows >= 0 and table.analyzed_at is None and (table.bytes or 0) >= LARGE_BYTES:
                yield Finding(
                    level=Level.UNKNOWN,
                    what=f"How much of {table.sql_name} changed since its last ANALYZE is not known: PostgreSQL counts"
                    f" only since {since:%Y-%m-%d %H:%M} UTC.",
                    evidence={"table": table.sql_name, "counted_since": since},
                    remedy="ANALYZE it to be sure",
                    sql=f"ANALYZE {table.sql_name};",
                )


def cases(probe: Probe) -> Iterator[Case]:
    """The tables that an ANALYZE would help."""
    for table in read_tables(probe):
        reason = _reason(table)
        if reason is None:
            continue
        evidence = {
            "table": table.sql_name,
            "rows_believed": table.rows,
            "rows_counted": table.live,
            "changed": table.changed,
            "analyzed_at": table.analyzed_at,
            "autovacuum_leaves_it_alone": table.left_alone,
        }
        step = Step(
            check=CHECK,
            why=reason,
            table=table.sql_name,
            index="",
            sql=(f"ANALYZE {table.sql_name}",),
            undo=(),
            lock=Lock.SCAN,
            table_bytes=table.bytes or 0,
            index_bytes=0,
            reads_bytes=min(table.bytes or 0, 300 * 100 * 8192),  # ANALYZE reads a sample of pages
            ours=table.is_ours,
            owned=table.is_owned,
        )
        remedy = PLAN
        if table.left_alone:
            remedy += f"; autovacuum is told to leave it alone: ALTER TABLE {table.sql_name} RESET (autovacuum_enabled)"
        yield case(Level.WARNING, reason, evidence, step=step, remedy=remedy)


def _reason(table: Table) -> str | None:
    if table.bytes is None:
        return None
    counted = max(table.live, table.changed)
    if table.rows < 0 and (counted >= LEAST_ROWS or table.bytes >= LARGE_BYTES):
        return f"{table.sql_name} was never analyzed: its queries are planned by guesses."
    holds = max(table.live, table.rows, 1)  # what was counted may be younger than the table
    if table.rows >= 0 and table.changed >= LEAST_ROWS and table.changed > CHURN * holds:
        share = 100 * table.changed / holds
        return (
            f"{table.changed} rows of {table.sql_name} changed since its last ANALYZE, {share:.0f}% of what it holds."
        )
    return None
