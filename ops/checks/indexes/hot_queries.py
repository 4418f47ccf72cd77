"""Statements that are asked often, take long, and read a large table from end to end: there an index is missing.

Shares of index scans are only symptoms: a small table is read whole because that is fastest, and a backup reads all of
them. So this begins with the statements, as pg_stat_statements counts them under our names, and lets PostgreSQL plan
each that is slow: only a plan that reads a large table sequentially is a finding. Only statements of our own role are
planned: a foreign one could have functions in it that would run with our rights.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg2

from app.repositories.statement import Statement
from ops.checks.extensions import require
from ops.checks.probe import Probe
from ops.checks.tables import Table, read_tables
from ops.findings import CannotJudge, Finding
from ops.levels import Level

LARGE_BYTES = 10_000_000  # of rows; smaller tables are read whole within milliseconds
SLOW_MS = 25.0  # on average; a chat's statements together have less than 100
OFTEN = 20  # calls since pg_stat_statements began counting
MOST = 40  # statements looked at, those that took most time first
_SHOWN = 500  # characters of a statement

# As app/tracing.py writes it, with the id of the first request that asked it.
_NAME = re.compile(r"/\* ([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)(?: rid=\S+)? \*/")
_PREPARED = re.compile(r"\s*PREPARE\s+\w+\s*(?:\([^)]*\))?\s*AS\s+", re.IGNORECASE)  # before a statement that was
_PLANNABLE = re.compile(r"\s*(?:SELECT|WITH|UPDATE|DELETE|INSERT|MERGE)\b", re.IGNORECASE)

SLOW = """
SELECT s.queryid, s.query AS text, s.calls, s.total_exec_time AS total_ms, s.mean_exec_time AS mean_ms,
       s.mean_exec_time + 1.645 * s.stddev_exec_time AS p95_ms, r.rolname AS role, r.rolname = current_user AS is_own
  FROM {schema}.pg_stat_statements s LEFT JOIN pg_roles r ON r.oid = s.userid
 WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND s.mean_exec_time >= %(slow)s AND s.calls >= %(often)s
 ORDER BY s.total_exec_time DESC LIMIT %(most)s"""


@dataclass(frozen=True, slots=True)
class Slow:
    """One statement as pg_stat_statements has it; `p95_ms` is what 95% would stay below if times were spread evenly."""

    text: str
    calls: int
    mean_ms: float
    p95_ms: float
    total_ms: float
    role: str
    is_own: bool

    @property
    def name(self) -> str:
        found = _NAME.search(self.text)
        return found[1] if found else "an unnamed statement"


def hot_queries(probe: Probe) -> Iterator[Finding]:
    """Every statement that is asked often, is slow, and is planned to read a large table sequentially.

    Raises `CannotJudge` where there are large tables and pg_stat_statements is not to be had.
    """
    large = [table for table in read_tables(probe) if table.bytes is not None and table.bytes >= LARGE_BYTES]
    if not large:
        return
    for slow in slow_statements(probe):
        named = [table for table in large if re.search(rf"\b{re.escape(table.name)}\b", slow.text, re.IGNORECASE)]
        if not named:
            continue
        if not slow.is_own:
            read_whole = [table for table in named if table.sequential_scans and table.rows_read >= table.live]
            if read_whole:
                yield _unplanned(slow, read_whole)
            continue
        plan = plan_of(probe, slow.text)
        for node in _sequential(plan):
            for table in named:
                if (node.get("Relation Name"), node.get("Schema", table.schema)) == (table.name, table.schema):
                    yield _finding(slow, table, node)


def slow_statements(probe: Probe) -> list[Slow]:
    """Those of this database that are asked often and take long.

    Raises `CannotJudge` without pg_stat_statements.
    """
    schema = require(probe, "pg_stat_statements", "There are large tables")
    statement = Statement("ops.slow_statements", SLOW.format(schema=schema))
    try:
        rows = statement.all(probe.connection, {"slow": SLOW_MS, "often": OFTEN, "most": MOST})
    except Exception as error:
        if getattr(getattr(error, "orig", None), "pgcode", None) != "55000":
            raise
        raise CannotJudge(
            "pg_stat_statements is installed, and the server does not load it.",
            remedy="Set shared_preload_libraries = 'pg_stat_statements' and restart PostgreSQL",
        ) from error
    return [
        Slow(row.text, row.calls, row.mean_ms, row.p95_ms, row.total_ms, row.role or "a role that is gone", row.is_own)
        for row in rows
    ]


def plan_of(probe: Probe, text: str) -> list[dict[str, Any]]:
    """The nodes of the plan that PostgreSQL keeps for all values of a statement's parameters; none where it cannot be
    planned out of context. Nothing of the statement is run."""
    text = _PREPARED.sub("", text, count=1)
    if not _PLANNABLE.match(text):
        return []
    count = max((int(number) for number in re.findall(r"\$(\d+)", text)), default=0)
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    # Past SQLAlchemy, which would take a % in the text for a parameter.
    with closing(probe.connection.connection.cursor()) as cursor:
        try:
            cursor.execute("SET plan_cache_mode = force_generic_plan")
            cursor.execute(f"PREPARE parley_look AS {text}")
            try:
                cursor.execute(f"EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE parley_look{values}")
                found = cursor.fetchone()
            finally:
                cursor.execute("DEALLOCATE parley_look")
        except psycopg2.OperationalError:
            raise
        except psycopg2.Error:
            return []
        finally:
            if not probe.connection.connection.closed:
                cursor.execute("RESET plan_cache_mode")
    plan = found[0] if found else []
    return list(_nodes((plan if isinstance(plan, list) else orjson.loads(plan))[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _sequential(nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (node for node in nodes if "Seq Scan" in str(node.get("Node Type")))


def _finding(slow: Slow, table: Table, node: dict[str, Any]) -> Finding:
    return Finding(
        level=Level.WARNING,
        what=f"{slow.name} reads all of {table.sql_name} each of {slow.calls} times, {slow.mean_ms:.0f} ms on average.",
        evidence={
            **_evidence(slow),
            "table": table.sql_name,
            "table_bytes": table.bytes,
            "condition": node.get("Filter"),
        },
        remedy="See which of the condition's columns an index would serve, and declare it in a model and a migration.",
    )


def _unplanned(slow: Slow, tables: list[Table]) -> Finding:
    names = ", ".join(table.sql_name for table in tables)
    return Finding(
        level=Level.UNKNOWN,
        what=f"{slow.name} of role {slow.role} is slow ({slow.mean_ms:.0f} ms), and {names} is read whole by somebody.",
        evidence=_evidence(slow),
        remedy=f"As role {slow.role}: EXPLAIN the statement. This role plans only what it asks itself.",
    )


def _evidence(slow: Slow) -> dict[str, Any]:
    return {
        "statement": slow.name,
        "calls": slow.calls,
        "mean_ms": round(slow.mean_ms, 1),
        "p95_ms_estimate": round(slow.p95_ms, 1),
        "total_ms": round(slow.total_ms),
        "text": slow.text[:_SHOWN],
    }
