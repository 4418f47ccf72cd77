"""Frequent slow statements that scan a large table sequentially: an index is missing.

The share of index scans is no evidence: small tables are scanned because that is fastest, and a backup scans all of
them. So this check begins with the slow statements in pg_stat_statements and lets PostgreSQL plan each: only a plan
with a sequential scan of a large table is a finding. Only statements of this role are planned, because planning may
call functions of a statement, with the privileges of this role.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg2

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.extensions import require_extension, statements_loaded
from ops.checks.findings import Finding
from ops.indexes.tables import Table, read_table_statistics
from ops.levels import Level

LARGE_BYTES = 10_000_000  # without indexes; smaller tables are scanned within milliseconds
SLOW_MS = 25.0  # on average; all statements of a chat together have less than 100
MIN_CALLS = 20  # since the statistics were reset
MAX_STATEMENTS = 40  # those with the most total time
_SHOWN = 500  # characters of a statement

# As app/tracing.py writes it, with the id of the first request that ran the statement.
_NAME = re.compile(r"/\* ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?: rid=\S+)? \*/")
_PREPARED = re.compile(r"\s*PREPARE\s+\w+\s*(?:\([^)]*\))?\s*AS\s+", re.IGNORECASE)  # a prefix of prepared statements
_PLANNABLE = re.compile(r"\s*(?:SELECT|WITH|UPDATE|DELETE|INSERT|MERGE)\b", re.IGNORECASE)

SLOW = """
SELECT s.queryid, s.query AS text, s.calls, s.total_exec_time AS total_ms, s.mean_exec_time AS mean_ms,
       s.mean_exec_time + 1.645 * s.stddev_exec_time AS p95_ms, r.rolname AS role, r.rolname = current_user AS is_own
  FROM {schema}.pg_stat_statements s LEFT JOIN pg_roles r ON r.oid = s.userid
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND s.mean_exec_time >= %(slow_ms)s AND s.calls >= %(min_calls)s
 ORDER BY s.total_exec_time DESC LIMIT %(max_statements)s"""


@dataclass(frozen=True, slots=True)
class SlowStatement:
    """One statement of pg_stat_statements. `p95_ms` is estimated, for normally distributed times."""

    text: str
    calls: int
    mean_ms: float
    p95_ms: float
    total_ms: float
    role: str
    is_own: bool

    @property
    def name(self) -> str:
        """Its name in Parley's code."""
        match = _NAME.search(self.text)
        return match[1] if match else "an unnamed statement"


@check("indexes.hot_queries", "Do frequent statements scan large tables sequentially?", severity=Level.WARNING)
def hot_queries(context: CheckContext) -> Iterator[Finding]:
    """Find frequent slow statements whose plan scans a large table sequentially.

    Raises `UnknownState` if there are large tables and pg_stat_statements is not available.
    """
    large = [
        table for table in read_table_statistics(context) if table.bytes is not None and table.bytes >= LARGE_BYTES
    ]
    if not large:
        return
    for slow in slow_statements(context):
        tables = [table for table in large if re.search(rf"\b{re.escape(table.name)}\b", slow.text, re.IGNORECASE)]
        if not tables:
            continue
        if not slow.is_own:
            scanned = [table for table in tables if table.sequential_scans and table.rows_read >= table.live]
            if scanned:
                yield _unplanned_finding(slow, scanned)
            continue
        plan = plan_nodes(context, slow.text)
        for node in _sequential_scans(plan):
            for table in tables:
                if (node.get("Relation Name"), node.get("Schema", table.schema)) == (table.name, table.schema):
                    yield _finding(slow, table, node)


def slow_statements(context: CheckContext) -> list[SlowStatement]:
    """Return the frequent slow statements of this database. Raises `UnknownState` without pg_stat_statements."""
    schema = require_extension(context, "pg_stat_statements", "There are large tables")
    statement = Statement("ops.slow_statements", SLOW.format(schema=schema))
    with statements_loaded():
        rows = statement.all(
            context.connection, {"slow_ms": SLOW_MS, "min_calls": MIN_CALLS, "max_statements": MAX_STATEMENTS}
        )
    return [
        SlowStatement(
            row.text, row.calls, row.mean_ms, row.p95_ms, row.total_ms, row.role or "a dropped role", row.is_own
        )
        for row in rows
    ]


def plan_nodes(context: CheckContext, text: str) -> list[dict[str, Any]]:
    """Return the nodes of the statement's generic plan, without running it; none if it cannot be planned alone."""
    text = _PREPARED.sub("", text, count=1)
    if not _PLANNABLE.match(text):
        return []
    count = max((int(number) for number in re.findall(r"\$(\d+)", text)), default=0)
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    # With the driver, because SQLAlchemy takes a % in the text for a parameter.
    with context.transaction(), closing(context.connection.connection.cursor()) as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        try:
            cursor.execute(f"PREPARE parley_look AS {text}")
        except psycopg2.OperationalError:
            raise
        except psycopg2.Error:
            return []
        row = _explain(cursor, f"EXECUTE parley_look{values}")
    plan = row[0] if row else []
    return list(_descend((plan if isinstance(plan, list) else orjson.loads(plan))[0]["Plan"]))


def _explain(cursor: Any, execution: str) -> Any:
    """Return the row of the plan, or None after an error; deallocate what was prepared.

    The end of the transaction would not: a prepared statement belongs to the session.
    """
    cursor.execute("SAVEPOINT explained")
    try:
        cursor.execute(f"EXPLAIN (FORMAT JSON, VERBOSE) {execution}")
        return cursor.fetchone()
    except psycopg2.OperationalError:
        raise
    except psycopg2.Error:
        return None
    finally:
        if not cursor.connection.closed:
            cursor.execute("ROLLBACK TO SAVEPOINT explained; DEALLOCATE parley_look")


def _descend(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _descend(child)


def _sequential_scans(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (node for node in nodes if "Seq Scan" in str(node.get("Node Type")))


def _finding(slow: SlowStatement, table: Table, node: dict[str, Any]) -> Finding:
    return Finding(
        level=Level.WARNING,
        message=f"{slow.name} scans {table.sql_name} in each of {slow.calls} calls, {slow.mean_ms:.0f} ms on average.",
        object=f"{slow.name} {table.sql_name}",
        evidence={
            **_evidence(slow),
            "table": table.sql_name,
            "table_bytes": table.bytes,
            "condition": node.get("Filter"),
        },
        remedy="Which index would support the condition? Declare it in a model and a migration",
    )


def _unplanned_finding(slow: SlowStatement, tables: list[Table]) -> Finding:
    names = ", ".join(table.sql_name for table in tables)
    return Finding(
        level=Level.UNKNOWN,
        message=f"{slow.name} of role {slow.role} is slow ({slow.mean_ms:.0f} ms), and {names} has sequential scans.",
        object=slow.name,
        evidence=_evidence(slow),
        remedy=f"What does EXPLAIN show as role {slow.role}? The check plans only statements of its own role",
    )


def _evidence(slow: SlowStatement) -> dict[str, Any]:
    return {
        "statement": slow.name,
        "calls": slow.calls,
        "mean_ms": round(slow.mean_ms, 1),
        "p95_ms_estimate": round(slow.p95_ms, 1),
        "total_ms": round(slow.total_ms),
        "text": slow.text[:_SHOWN],
    }
