"""SQL of the job history, in AUTOCOMMIT. An exclusive job runs BEGIN under the lease of the job."""

from app.repositories.job_cancellations import CANCELLATION_REASON
from app.repositories.paused_jobs import PAUSED_JOBS_KEY
from app.repositories.statement import Statement

_BY_COMMAND = """(arguments @> '{"command": true}') IS TRUE"""  # the work of the job in a command
# Not a dry run, which changes nothing.
_REAL = """(arguments @> '{"dry_run": true}') IS NOT TRUE"""

_LOST = "its worker ended before it did, or lost the database"
_CANCELLED = CANCELLATION_REASON.format("job_runs.message_id")

# When a run begins, all earlier runs of the same message have ended, because it was delivered again, and under an
# exclusive job's lease all earlier runs of the job. Runs that are still recorded as running were lost. A message that
# has used up its deliveries is not run: its last run counts as failed, and no row is returned. A scheduled run is
# skipped if the job has run for the same slot or just now; dry runs do not count, nor does the work of a job in a
# command, which may be less, and records no metrics. Only runs that began in the past count, so that a clock that was
# set back does not stop the job. A scheduled run of a paused job is skipped, too. A cancelled message is not run, and
# the run that its cancellation ended is not lost.
BEGIN = Statement(
    "job_runs.begin",
    f"""
WITH lost AS (
    UPDATE job_runs
       SET finished_at = now(),
           status = CASE WHEN {_CANCELLED} IS NOT NULL THEN 'cancelled'
                         WHEN message_id = %(message_id)s AND attempt >= %(deliveries)s THEN 'failed' ELSE 'lost' END,
           reason = coalesce({_CANCELLED}, '{_LOST}' ||
                             CASE WHEN message_id = %(message_id)s AND attempt >= %(deliveries)s
                                  THEN ', as often as it was tried' ELSE '' END)
     WHERE (status = 'running' AND job = %(job)s AND (%(exclusive)s OR message_id = %(message_id)s))
        OR (status = 'lost' AND message_id = %(message_id)s AND attempt >= %(deliveries)s)
    RETURNING id),
earlier AS (
    SELECT count(*) AS deliveries FROM job_runs WHERE message_id = %(message_id)s AND status <> 'skipped'),
recent AS (
    SELECT EXISTS (
        SELECT FROM job_runs
         WHERE %(slot)s::timestamptz IS NOT NULL AND job = %(job)s AND {_REAL} AND NOT {_BY_COMMAND}
           AND started_at > now() - make_interval(secs => %(window)s) AND started_at <= now()
           AND ((status IN ('succeeded', 'failed', 'cancelled') AND slot = %(slot)s)
                OR (status IN ('succeeded', 'failed')
                    AND finished_at > now() - make_interval(secs => %(quiet)s)))) AS enough),
cancelled AS (SELECT {CANCELLATION_REASON.format("%(message_id)s")} AS reason),
skipped AS (
    SELECT coalesce((SELECT 'it is paused: ' || (value -> %(job)s::text ->> 'reason') FROM settings
                      WHERE key = '{PAUSED_JOBS_KEY}' AND %(slot)s::timestamptz IS NOT NULL),
                    CASE WHEN recent.enough THEN 'it has just run' END) AS reason FROM recent)
INSERT INTO job_runs (id, job, message_id, attempt, slot, queued_at, request_id, worker, arguments,
                      status, finished_at, reason)
SELECT %(id)s, %(job)s, %(message_id)s, earlier.deliveries + 1, %(slot)s, %(queued_at)s, %(request_id)s, %(worker)s,
       %(arguments)s::jsonb, CASE WHEN cancelled.reason IS NOT NULL THEN 'cancelled'
                                  WHEN skipped.reason IS NOT NULL THEN 'skipped' ELSE 'running' END,
       CASE WHEN coalesce(cancelled.reason, skipped.reason) IS NOT NULL THEN now() END,
       coalesce(cancelled.reason, skipped.reason)
  FROM earlier, skipped, cancelled WHERE earlier.deliveries < %(deliveries)s OR cancelled.reason IS NOT NULL
RETURNING attempt, status, reason""",
)

SKIP = Statement(
    "job_runs.skip",
    """
INSERT INTO job_runs (id, job, message_id, attempt, slot, queued_at, request_id, worker, arguments,
                      status, finished_at, reason)
SELECT %(id)s, %(job)s, %(message_id)s, count(*) + 1, %(slot)s, %(queued_at)s, %(request_id)s, %(worker)s,
       %(arguments)s::jsonb, 'skipped', now(), 'another run of it is in progress'
  FROM job_runs WHERE message_id = %(message_id)s AND status <> 'skipped'
RETURNING attempt, status, reason""",
)

# A run that was recorded as lost or cancelled may still finish.
FINISH = Statement(
    "job_runs.finish",
    """
UPDATE job_runs
   SET status = %(status)s, finished_at = greatest(now(), started_at), report = %(report)s::jsonb, reason = %(reason)s
 WHERE id = %(id)s AND status IN ('running', 'lost', 'cancelled')
RETURNING id""",
)

# Runs that take longer than the time limit of their job, or than %(seconds)s for an unknown job, and those that were
# cancelled more than %(cancelled_seconds)s ago.
CLOSE_LOST = Statement(
    "job_runs.close_lost",
    f"""
UPDATE job_runs SET status = CASE WHEN {_CANCELLED} IS NOT NULL THEN 'cancelled' ELSE 'lost' END, finished_at = now(),
       reason = coalesce({_CANCELLED}, '{_LOST}')
 WHERE status = 'running'
   AND (started_at < now() - make_interval(secs => coalesce(
        (SELECT time_limit.seconds FROM unnest(%(jobs)s::text[], %(limits)s::float8[]) AS time_limit(job, seconds)
          WHERE time_limit.job = job_runs.job), %(seconds)s))
        OR EXISTS (SELECT FROM job_cancellations AS cancellation WHERE cancellation.message_id = job_runs.message_id
                      AND cancellation.created_at < now() - make_interval(secs => %(cancelled_seconds)s)))
RETURNING id, job""",
)

COUNT_RUNNING = Statement("job_runs.count_running", "SELECT count(*) AS runs FROM job_runs WHERE status = 'running'")

# When each job last began and last succeeded, by index look-ups per job. Dry runs do not count, nor do runs with a time
# in the future, from a wrong clock: they would hide a job that does not run.
LAST = Statement(
    "job_runs.last",
    f"""
SELECT job, (SELECT started_at FROM job_runs WHERE job_runs.job = requested.job AND status <> 'skipped'
                AND {_REAL} AND started_at <= now() ORDER BY started_at DESC LIMIT 1) AS attempted,
            (SELECT status FROM job_runs WHERE job_runs.job = requested.job AND status <> 'skipped'
                AND {_REAL} AND started_at <= now() ORDER BY started_at DESC LIMIT 1) AS status,
            (SELECT least(finished_at, now()) FROM job_runs WHERE job_runs.job = requested.job AND status = 'succeeded'
                AND {_REAL} AND started_at <= now() ORDER BY started_at DESC LIMIT 1) AS succeeded
  FROM unnest(%(jobs)s::text[]) AS requested(job)""",
)

_SHOWN = """
SELECT id, job, status, started_at, extract(epoch FROM finished_at - started_at)::float8 AS seconds, attempt, worker,
       reason, report
  FROM job_runs"""

ONE = Statement("job_runs.one", f"{_SHOWN} WHERE id = %(id)s")

# A run of a command that has ended: it may take longer than the job's time limit, so it is not recorded as running.
RECORD = Statement(
    "job_runs.record",
    """
INSERT INTO job_runs (id, job, worker, arguments, status, started_at, finished_at, report)
VALUES (%(id)s, %(job)s, %(worker)s, %(arguments)s::jsonb, 'succeeded',
        now() - make_interval(secs => %(seconds)s), now(), %(report)s::jsonb)
RETURNING id""",
)

ARGUMENTS = Statement("job_runs.arguments", "SELECT job, status, arguments FROM job_runs WHERE id = %(id)s")

# Ids are ordered by time. Without a job this walks down the primary key.
HISTORY = Statement(
    "job_runs.history",
    f"""{_SHOWN}
 WHERE (%(job)s::text IS NULL OR job = %(job)s) AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(after)s::uuid IS NULL OR id < %(after)s)
 ORDER BY id DESC LIMIT %(limit)s""",
)

# Runs with a time in the future, from a wrong clock.
IN_FUTURE = Statement(
    "job_runs.in_future",
    """
SELECT job, (SELECT max(started_at) FROM job_runs WHERE job_runs.job = requested.job AND started_at > now()) AS newest
  FROM unnest(%(jobs)s::text[]) AS requested(job)""",
)

# When a worker of this installation first had each job; written once per job.
KNOWN_SINCE = Statement("job_runs.known_since", "SELECT value FROM settings WHERE key = 'jobs.known_since'")
RECORD_KNOWN = Statement(
    "job_runs.record_known",
    """
INSERT INTO settings AS known (key, value)
SELECT 'jobs.known_since', jsonb_object_agg(job, now()) FROM unnest(%(jobs)s::text[]) AS requested(job)
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
