"""How old an index is. PostgreSQL does not note it, but transactions are numbered: the number that made the index is
compared with those that wrote rows whose moment is known, the history of jobs.
"""

from datetime import datetime

from app.repositories.statement import Statement
from ops.checks.indexes.reading import Index
from ops.checks.probe import Probe

# `earlier`: a row written before the index was, and after `moment`. `later`: one written after it, and before `moment`.
# Both ages are counted at one moment, for they grow while others write. A number wraps; what is older than two billion
# of them counts as frozen, older than anything.
NEIGHBOURS = Statement(
    "ops.index_age",
    """
SELECT EXISTS (SELECT FROM job_runs WHERE finished_at > %(moment)s AND age(xmin) > index.age) AS earlier,
       EXISTS (SELECT FROM job_runs WHERE finished_at <= %(moment)s AND age(xmin) < index.age) AS later
  FROM (SELECT age(CAST(%(changed_by)s AS xid)) AS age) AS index
 WHERE index.age BETWEEN 0 AND %(frozen)s - 1""",
)
HISTORY = Statement("ops.job_history", "SELECT to_regclass('job_runs') IS NOT NULL AS exists")
FROZEN = 2**31 - 1


def made_since(probe: Probe, index: Index, moment: datetime) -> bool | None:
    """Whether the index was made, or last rebuilt, after `moment`; None where nothing tells."""
    history = HISTORY.one(probe.connection, {})
    if history is None or not history.exists:
        return None
    row = NEIGHBOURS.one(probe.connection, {"moment": moment, "changed_by": index.changed_by, "frozen": FROZEN})
    if row is None or row.earlier == row.later:
        return None
    return bool(row.earlier)
