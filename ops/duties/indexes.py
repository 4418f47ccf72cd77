"""Indexes: how they are used, and what could be improved about them."""

from app.repositories.statement import Statement
from ops.checks.probe import Probe
from ops.doctor import examine_by, select
from ops.duties.parts import Told
from ops.words import size

SHOWN = 20

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
    """What the index checks would have done: a statement for each finding that has one. Nothing is changed."""
    answers = examine_by(probe, checks=select(("indexes",))).answers
    steps = [
        {"check": answer.check, "what": finding.what, "sql": finding.sql}
        for answer in answers
        for finding in answer.findings
        if finding.sql
    ]
    next_step = "; `flask ops index plan` writes them down" if steps else ""
    return Told(
        says=f"{len(steps)} improvements are at hand{next_step}", figures={"steps": len(steps)}, rows=tuple(steps)
    )
