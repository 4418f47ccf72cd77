"""Indexes: their use, and possible improvements."""

from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.formatting import format_size
from ops.indexes.planning import make_plan
from ops.routines.sections import Section

SHOWN = 20
STATEMENT_TIMEOUT = timedelta(seconds=60)  # for each statement of a plan

USAGE = Statement(
    "ops.index_usage",
    """
SELECT s.relname AS table, s.indexrelname AS index, s.idx_scan AS scans, s.idx_tup_read AS entries_read,
       c.relpages::int8 * current_setting('block_size')::int AS bytes
  FROM pg_stat_user_indexes s JOIN pg_class c ON c.oid = s.indexrelid
 ORDER BY bytes DESC, index""",
)


def usage(context: CheckContext) -> Section:
    """Return the largest indexes and their scans since the statistics were reset."""
    rows = USAGE.all(context.connection, {})
    unused = [row for row in rows if not row.scans]
    return Section(
        summary=f"{len(rows)} indexes take {format_size(sum(row.bytes for row in rows))}; {len(unused)} of them are "
        f"unused ({format_size(sum(row.bytes for row in unused))})",
        data={"indexes": len(rows), "unused": len(unused)},
        rows=tuple(dict(row._mapping) for row in rows[:SHOWN]),
    )


def planned_improvements(context: CheckContext) -> Section:
    """Return the plan that `flask ops index plan` would make, without changing anything."""
    with context.statement_timeout(STATEMENT_TIMEOUT):
        plan = make_plan(context)
    steps = tuple({"check": step.check, "reason": step.reason, "sql": "; ".join(step.sql)} for step in plan.steps)
    planned = f"{len(steps)} steps would repair findings" if steps else "no repairs are planned"
    left_out = f"; {len(plan.left_out)} findings need an operator's decision" if plan.left_out else ""
    return Section(
        summary=planned + left_out + ("; `flask ops index plan` writes the plan" if steps else ""),
        data={"steps": len(steps), "left_out": len(plan.left_out)},
        rows=steps,
    )
