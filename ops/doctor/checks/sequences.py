"""Sequences close to their maximum, or to that of their column's type."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level

WARNING, CRITICAL = 0.75, 0.9  # share of the values that are used
_BIGINT = 8  # bytes

# A column uses a sequence that it owns (serial, identity), or one that its default names.
SEQUENCES = Statement(
    "ops.sequences",
    """
WITH users AS (
    SELECT d.objid AS sequence, d.refobjid AS table_oid, d.refobjsubid AS attribute FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
       AND d.deptype IN ('a', 'i')
    UNION
    SELECT d.refobjid, a.adrelid, a.adnum FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid
     WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass)
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name, q.seqincrement AS step,
       q.seqcycle AS cycles,
       q.seqmin AS minimum, q.seqmax AS maximum, tn.sql_table, tn.sql_column, tn.width,
       quote_ident(current_user) AS role,
       r.is_readable, CASE WHEN r.is_readable THEN pg_sequence_last_value(c.oid) END AS last
  FROM pg_sequence q
  JOIN pg_class c ON c.oid = q.seqrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN LATERAL (SELECT has_sequence_privilege(c.oid, 'USAGE, SELECT') AS is_readable) r ON true
  LEFT JOIN LATERAL (
       SELECT quote_ident(n2.nspname) || '.' || quote_ident(t.relname) AS sql_table,
              quote_ident(a.attname) AS sql_column,
              CASE a.atttypid WHEN 'int2'::regtype THEN 2 WHEN 'int4'::regtype THEN 4 ELSE 8 END AS width
         FROM users u JOIN pg_class t ON t.oid = u.table_oid JOIN pg_namespace n2 ON n2.oid = t.relnamespace
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attribute
        WHERE u.sequence = c.oid ORDER BY width LIMIT 1) tn ON true
 WHERE c.relpersistence <> 't'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                                             AND e.deptype = 'e')
 ORDER BY 1""",
)


@check("tables.sequences", "Are there sequences close to their maximum?", severity=Level.CRITICAL)
def sequences(context: CheckContext) -> Iterator[Finding]:
    """Find sequences that have used three quarters of their values or of their column's, ascending or descending.

    A sequence that cycles is only reported if its column cannot hold its values.
    """
    for row in SEQUENCES.all(context.connection, {}):
        if not row.is_readable:
            yield Finding(
                level=Level.UNKNOWN,
                message=f"This role cannot read the last value of {row.sql_name}.",
                object=row.sql_name,
                evidence={"sequence": row.sql_name},
                remedy="As its owner, let this role read it",
                sql=f"GRANT SELECT ON SEQUENCE {row.sql_name} TO {row.role};",
            )
            continue
        if row.last is None:
            continue
        maximum = row.maximum if row.width is None else min(row.maximum, 2 ** (8 * row.width - 1) - 1)
        minimum = row.minimum if row.width is None else max(row.minimum, -(2 ** (8 * row.width - 1)))
        if row.cycles and (maximum, minimum) == (row.maximum, row.minimum):
            continue
        start, end = (minimum, maximum) if row.step > 0 else (maximum, minimum)
        start = 0 if minimum < 0 < maximum else start  # sequences with both signs usually start at 0 or 1
        used = (row.last - start) / (end - start) if end != start else 1.0
        if used >= WARNING:
            yield _finding(row, used, end)


def _finding(row: Row[Any], used: float, end: int) -> Finding:
    column = f"{row.sql_table}.{row.sql_column}" if row.sql_table else None
    limited_by_column = column is not None and end not in (row.maximum, row.minimum)
    return Finding(
        level=Level.CRITICAL if used >= CRITICAL else Level.WARNING,
        message=f"{row.sql_name} has used {used:.0%} of "
        + (f"the values that its column {column} can hold." if limited_by_column else "its values."),
        object=row.sql_name,
        evidence={"sequence": row.sql_name, "column": column, "last": row.last, "end": end, "share": round(used, 3)},
        remedy=f"Can {column} become a bigint? That rewrites the table while it is locked; copy a large one instead"
        if column and row.width < _BIGINT
        else f"Can {row.sql_name} have another limit, or start again (CYCLE)?",
    )
