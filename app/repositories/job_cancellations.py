"""SQL of the cancellations of jobs, in AUTOCOMMIT."""

from app.repositories.statement import Statement

# Why a run with the message `{0}` ends as cancelled; null if it is not.
CANCELLATION_REASON = (
    "(SELECT 'cancelled by ' || cancellation.cancelled_by || ': ' || cancellation.reason"
    " FROM job_cancellations AS cancellation WHERE cancellation.message_id = {0})"
)

# A repeated cancellation keeps the first reason.
CANCEL = Statement(
    "job_cancellations.cancel",
    """
INSERT INTO job_cancellations (message_id, reason, cancelled_by)
VALUES (%(message_id)s, %(reason)s, %(by)s)
    ON CONFLICT (message_id) DO UPDATE SET reason = job_cancellations.reason
RETURNING reason, cancelled_by, created_at""",
)

REASON = Statement("job_cancellations.reason", f"SELECT {CANCELLATION_REASON.format('%(message_id)s')} AS reason")

# The last run of a message; `id` is that of the message or of one of its runs.
LAST_RUN = Statement(
    "job_cancellations.last_run",
    """
SELECT id, job, message_id, status, arguments, worker FROM job_runs
 WHERE id = %(id)s
    OR message_id = coalesce((SELECT message_id FROM job_runs WHERE id = %(id)s), %(id)s::text)
 ORDER BY id DESC LIMIT 1""",
)

_OLD = "created_at < now() - make_interval(secs => %(keep)s)"

COUNT_OLD = Statement("job_cancellations.count_old", f"SELECT count(*) AS rows FROM job_cancellations WHERE {_OLD}")

PURGE = Statement(
    "job_cancellations.purge",
    f"""
WITH old AS (SELECT message_id FROM job_cancellations WHERE {_OLD} LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM job_cancellations USING old WHERE job_cancellations.message_id = old.message_id
RETURNING job_cancellations.message_id""",
)
