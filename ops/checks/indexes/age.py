"""How old an index is. PostgreSQL does not note it, but transactions are numbered: the number that made the index is
compared with those that wrote rows whose moment is known, the history of jobs.
"""

from datetime import datetime

from app.repositories.statement import Statement
from ops.checks.indexes.reading import Index
from ops.checks.probe import Probe

# `earlier`: a row written before the index was, and after `moment`. `later`: one written after it, and before `moment`.
# A transaction's number wraps; what is older than two billion of them counts as frozen, older than anything.
NEIGHBOURS = Statement(
    "ops.index_age",
    """
SELECT EXISTS (SELECT FROM job_runs WHERE finished_at > %(moment)s AND age(xmin) > %(changed_ago)s) AS earlier,
       EXISTS (SELECT FROM job_runs WHERE finished_at <= %(moment)s AND age(xmin) < %(changed_ago)s) AS later""",
)
HISTORY = Statement("ops.job_history", "SELECT to_regclass('job_runs') IS NOT NULL AS exists")
FROZEN = 2**31 - 1


def made_since(probe: Probe, index: Index, moment: datetime) -> bool | None:
    """Whether the index was made, or last rebuilt, after `moment`; None where nothing tells."""
    if index.changed_ago < 0 or index.changed_ago >= FROZEN:
        return None
    history = HISTORY.one(probe.connection, {})
    if history is None or not history.exists:
        return None
    row = NEIGHBOURS.one(probe.connection, {"moment": moment, "changed_ago": index.changed_ago})
    if row is None or row.earlier == row.later:
        return None
    return bool(row.earlier)
