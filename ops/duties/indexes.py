"""Indexes: how they are used, and what could be improved about them."""

from datetime import timedelta

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.duties.parts import Told
from ops.indexes.planning import make_plan
from ops.words import size

SHOWN = 20
LONGEST = timedelta(seconds=60)  # for each statement of a plan

USAGE = Statement(
    "ops.index_usage",
    """
SELECT s.relname AS table, s.indexrelname AS index, s.idx_scan AS scans, s.idx_tup_read AS entries_read,
       c.relpages::int8 * current_setting('block_size')::int AS bytes
  FROM pg_stat_user_indexes s JOIN pg_class c ON c.oid = s.indexrelid
 ORDER BY bytes DESC, index""",
)


def usage(probe: Probe) -> Told:
    """The largest indexes, and how often each was used since the statistics were reset."""
    rows = USAGE.all(probe.connection, {})
    unused = [row for row in rows if not row.scans]
    return Told(
        says=f"{len(rows)} indexes take {size(sum(row.bytes for row in rows))}; {len(unused)} of them were never used "
        f"({size(sum(row.bytes for row in unused))})",
        figures={"indexes": len(rows), "never_used": len(unused)},
        rows=tuple(dict(row._mapping) for row in rows[:SHOWN]),
    )


def optimisation(probe: Probe) -> Told:
    """The plan that would mend what the checks find, as `flask ops index plan` makes it. Nothing is changed."""
    with probe.patience(LONGEST):
        plan = make_plan(probe)
    steps = tuple({"check": step.check, "why": step.why, "sql": "; ".join(step.sql)} for step in plan.steps)
    told = f"{len(steps)} steps would mend what was found" if steps else "nothing is to be mended"
    left_out = f"; {len(plan.left_out)} findings are left to a person" if plan.left_out else ""
    return Told(
        says=told + left_out + ("; `flask ops index plan` writes them down" if steps else ""),
        figures={"steps": len(steps), "left_out": len(plan.left_out)},
        rows=steps,
    )
