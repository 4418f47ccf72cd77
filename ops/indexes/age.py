"""The age of an index.

PostgreSQL does not record it. The transaction id (xmin) of the index is compared with those of rows whose time is
known, the history of jobs.
"""

from datetime import datetime

from app.repositories.statement import Statement
from ops.checks.context import CheckContext
from ops.indexes.snapshot import Index

# `earlier`: a row was written after `moment` and before the index. `later`: one was written after the index and before
# `moment`. Both ages come from one statement, because they grow with every transaction. Transaction ids wrap around;
# an age of 2^31 - 1 means frozen, older than everything.
ADJACENT_ROWS = Statement(
    "ops.index_age",
    """
SELECT EXISTS (SELECT FROM job_runs WHERE finished_at > %(moment)s AND age(xmin) > index.age) AS earlier,
       EXISTS (SELECT FROM job_runs WHERE finished_at <= %(moment)s AND age(xmin) < index.age) AS later
  FROM (SELECT age(CAST(%(changed_by)s AS xid)) AS age) AS index
 WHERE index.age BETWEEN 0 AND %(frozen)s - 1""",
)
HISTORY = Statement("ops.job_history", "SELECT to_regclass('job_runs') IS NOT NULL AS exists")
FROZEN = 2**31 - 1


def created_since(context: CheckContext, index: Index, moment: datetime) -> bool | None:
    """Return whether the index was created or last rebuilt after `moment`; None if that is unknown."""
    history = HISTORY.one(context.connection, {})
    if history is None or not history.exists:
        return None
    row = ADJACENT_ROWS.one(context.connection, {"moment": moment, "changed_by": index.changed_by, "frozen": FROZEN})
    if row is None or row.earlier == row.later:
        return None
    return bool(row.earlier)
