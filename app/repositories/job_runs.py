"""The SQL of the jobs' history. Callers run it in AUTOCOMMIT; an exclusive job's BEGIN under the job's own lock."""

from app.repositories.statement import Statement

LOCK = Statement("job_runs.lock", "SELECT pg_try_advisory_lock(%(key)s) AS taken")

# The end of the connection gives it back too, but some time later.
UNLOCK = Statement("job_runs.unlock", "SELECT pg_advisory_unlock(%(key)s) AS given_back")

_GONE = "its worker ended before it did, or lost the database"

# A run that begins knows that all before it have ended: those of the same message, because it would not have been
# delivered again, and with an exclusive job's lock all of that job. What still counts as running was cut off. A message
# that has used up its deliveries runs no more, and its last run has failed: then there is no row.
# A scheduled run is skipped where the job has run for its slot, or a moment ago. Only runs that began in the past
# count, so that a clock that was set back does not stop a job until it has caught up.
BEGIN = Statement(
    "job_runs.begin",
    f"""
WITH gone AS (
    UPDATE job_runs
       SET finished_at = now(),
           status = CASE WHEN message_id = %(message_id)s AND attempt >= %(deliveries)s THEN 'failed' ELSE 'lost' END,
           reason = '{_GONE}' || CASE WHEN message_id = %(message_id)s AND attempt >= %(deliveries)s
                                      THEN ', as often as it was tried' ELSE '' END
     WHERE (status = 'running' AND job = %(job)s AND (%(exclusive)s OR message_id = %(message_id)s))
        OR (status = 'lost' AND message_id = %(message_id)s AND attempt >= %(deliveries)s)
    RETURNING id),
earlier AS (
    SELECT count(*) AS deliveries FROM job_runs WHERE message_id = %(message_id)s AND status <> 'skipped'),
recent AS (
    SELECT EXISTS (
        SELECT FROM job_runs
         WHERE %(slot)s::timestamptz IS NOT NULL AND job = %(job)s AND status IN ('succeeded', 'failed')
           AND started_at > now() - make_interval(secs => %(window)s) AND started_at <= now()
           AND (slot = %(slot)s OR finished_at > now() - make_interval(secs => %(quiet)s))) AS enough)
INSERT INTO job_runs (id, job, message_id, attempt, slot, queued_at, request_id, worker, arguments,
                      status, finished_at, reason)
SELECT %(id)s, %(job)s, %(message_id)s, earlier.deliveries + 1, %(slot)s, %(queued_at)s, %(request_id)s, %(worker)s,
       %(arguments)s::jsonb, CASE WHEN recent.enough THEN 'skipped' ELSE 'running' END,
       CASE WHEN recent.enough THEN now() END, CASE WHEN recent.enough THEN 'it has just run' END
  FROM earlier, recent WHERE earlier.deliveries < %(deliveries)s
RETURNING attempt, status, reason""",
)

SKIP = Statement(
    "job_runs.skip",
    """
INSERT INTO job_runs (id, job, message_id, attempt, slot, queued_at, request_id, worker, arguments,
                      status, finished_at, reason)
SELECT %(id)s, %(job)s, %(message_id)s, count(*) + 1, %(slot)s, %(queued_at)s, %(request_id)s, %(worker)s,
       %(arguments)s::jsonb, 'skipped', now(), 'another run of it holds its lock'
  FROM job_runs WHERE message_id = %(message_id)s AND status <> 'skipped'
RETURNING attempt, status, reason""",
)

# One that was taken for lost has ended all the same, and says so.
FINISH = Statement(
    "job_runs.finish",
    """
UPDATE job_runs
   SET status = %(status)s, finished_at = greatest(now(), started_at), report = %(report)s::jsonb, reason = %(reason)s
 WHERE id = %(id)s AND status IN ('running', 'lost')
RETURNING id""",
)

# Longer than a run may take, by job; %(seconds)s of the longest for one that is not known.
CLOSE_LOST = Statement(
    "job_runs.close_lost",
    f"""
UPDATE job_runs SET status = 'lost', finished_at = now(), reason = '{_GONE}'
 WHERE status = 'running'
   AND started_at < now() - make_interval(secs => coalesce(
       (SELECT longest.seconds FROM unnest(%(jobs)s::text[], %(limits)s::float8[]) AS longest(job, seconds)
         WHERE longest.job = job_runs.job), %(seconds)s))
RETURNING id, job""",
)

COUNT_RUNNING = Statement("job_runs.count_running", "SELECT count(*) AS runs FROM job_runs WHERE status = 'running'")

# When each job last began, and last succeeded: two steps down an index for each job. What a clock that was wrong has
# dated in the future does not count: it would hide every silence until then.
LAST = Statement(
    "job_runs.last",
    """
SELECT job, (SELECT started_at FROM job_runs WHERE job_runs.job = wanted.job AND status <> 'skipped'
                AND started_at <= now() ORDER BY started_at DESC LIMIT 1) AS attempted,
            (SELECT status FROM job_runs WHERE job_runs.job = wanted.job AND status <> 'skipped'
                AND started_at <= now() ORDER BY started_at DESC LIMIT 1) AS status,
            (SELECT least(finished_at, now()) FROM job_runs WHERE job_runs.job = wanted.job AND status = 'succeeded'
                AND started_at <= now() ORDER BY started_at DESC LIMIT 1) AS succeeded
  FROM unnest(%(jobs)s::text[]) AS wanted(job)""",
)

_SHOWN = """
SELECT id, job, status, started_at, extract(epoch FROM finished_at - started_at)::float8 AS seconds, attempt, worker,
       reason, report
  FROM job_runs"""

ONE = Statement("job_runs.one", f"{_SHOWN} WHERE id = %(id)s")

# Ids are ordered by time. Without a job this walks down the primary key.
HISTORY = Statement(
    "job_runs.history",
    f"""{_SHOWN}
 WHERE (%(job)s::text IS NULL OR job = %(job)s) AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(after)s::uuid IS NULL OR id < %(after)s)
 ORDER BY id DESC LIMIT %(limit)s""",
)

# Those whose date is in the future: made while a clock was wrong.
AHEAD = Statement(
    "job_runs.ahead",
    """
SELECT job, (SELECT max(started_at) FROM job_runs WHERE job_runs.job = wanted.job AND started_at > now()) AS newest
  FROM unnest(%(jobs)s::text[]) AS wanted(job)""",
)

# Since when which job is known here: written when a worker first hears of it, and never again.
KNOWN_SINCE = Statement("job_runs.known_since", "SELECT value FROM settings WHERE key = 'jobs.known_since'")
REMEMBER_KNOWN = Statement(
    "job_runs.remember_known",
    """
INSERT INTO settings AS known (key, value)
SELECT 'jobs.known_since', jsonb_object_agg(job, now()) FROM unnest(%(jobs)s::text[]) AS wanted(job)
    ON CONFLICT (key) DO UPDATE
   SET value = excluded.value || known.value, updated_at = greatest(known.updated_at, now())
 WHERE NOT known.value ?& %(jobs)s::text[]
RETURNING key""",
)

JOBS = Statement("job_runs.jobs", "SELECT DISTINCT job FROM job_runs")

_OLD = """status <> 'running' AND job = %(job)s AND started_at < now() - make_interval(secs => %(keep)s)"""

COUNT_OLD = Statement("job_runs.count_old", f"SELECT count(*) AS runs FROM job_runs WHERE {_OLD}")

PURGE = Statement(
    "job_runs.purge",
    f"""
WITH old AS (SELECT id FROM job_runs WHERE {_OLD} ORDER BY started_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM job_runs USING old WHERE job_runs.id = old.id
RETURNING job_runs.id""",
)
