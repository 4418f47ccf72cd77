"""Sequences that run out of numbers, or out of those that their column can hold."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.findings import Finding
from ops.levels import Level

WARNING, CRITICAL = 0.75, 0.9  # of the numbers there are
_BIGINT = 8  # bytes

# A column takes its numbers from a sequence that it owns (serial, identity), or from one that its default names.
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
       q.seqmin AS least, q.seqmax AS most, tn.sql_table, tn.sql_column, tn.width,
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


def sequences(probe: Probe) -> Iterator[Finding]:
    """Every sequence, in its direction, that has used three quarters of what it or its column has.

    One that begins anew at its end is left out, unless its column is too small for it.
    """
    for row in SEQUENCES.all(probe.connection, {}):
        if not row.is_readable:
            yield Finding(
                level=Level.UNKNOWN,
                what=f"How far {row.sql_name} has come cannot be seen by this role.",
                evidence={"sequence": row.sql_name},
                remedy=f"As its owner: GRANT SELECT ON SEQUENCE {row.sql_name} TO the role",
            )
            continue
        if row.last is None:
            continue
        most = row.most if row.width is None else min(row.most, 2 ** (8 * row.width - 1) - 1)
        least = row.least if row.width is None else max(row.least, -(2 ** (8 * row.width - 1)))
        if row.cycles and (most, least) == (row.most, row.least):
            continue
        begin, end = (least, most) if row.step > 0 else (most, least)
        begin = 0 if least < 0 < most else begin  # as everybody counts who did not ask for the other half
        used = (row.last - begin) / (end - begin) if end != begin else 1.0
        if used >= WARNING:
            yield _finding(row, used, end)


def _finding(row: Row[Any], used: float, end: int) -> Finding:
    column = f"{row.sql_table}.{row.sql_column}" if row.sql_table else None
    narrow = column is not None and end not in (row.most, row.least)
    return Finding(
        level=Level.CRITICAL if used >= CRITICAL else Level.WARNING,
        what=f"{row.sql_name} has used {used:.0%} of the numbers "
        + (f"that its column {column} can hold." if narrow else "it has."),
        evidence={"sequence": row.sql_name, "column": column, "last": row.last, "end": end, "share": round(used, 3)},
        remedy=f"Make {column} a bigint: that rewrites the table under an exclusive lock, so copy a large one instead"
        if column and row.width < _BIGINT
        else f"ALTER SEQUENCE {row.sql_name} with a new bound, or have it begin anew",
    )
