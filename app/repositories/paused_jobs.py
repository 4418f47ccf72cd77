"""SQL of the paused jobs: one row of `settings`, an object with an entry for each of them."""

from app.repositories.statement import Statement

PAUSED_JOBS_KEY = "jobs.paused"

ALL = Statement(
    "paused_jobs.all",
    f"""
SELECT entry.key AS job, entry.value ->> 'reason' AS reason, entry.value ->> 'by' AS by,
       (entry.value ->> 'since')::timestamptz AS since
  FROM (SELECT value FROM settings
         WHERE key = '{PAUSED_JOBS_KEY}' AND jsonb_typeof(value) = 'object') AS stored,
       jsonb_each(stored.value) AS entry
 ORDER BY entry.key""",
)

# A repeated pause replaces the reason; the job is paused since the first.
PAUSE = Statement(
    "paused_jobs.pause",
    f"""
INSERT INTO settings AS known (key, value, updated_by)
VALUES ('{PAUSED_JOBS_KEY}', jsonb_build_object(%(job)s::text, jsonb_build_object(
           'reason', %(reason)s::text, 'by', %(by)s::text, 'since', now())), %(user_id)s)
    ON CONFLICT (key) DO UPDATE
   SET value = known.value || jsonb_build_object(%(job)s::text, (excluded.value -> %(job)s::text)
               || jsonb_build_object('since', coalesce(known.value -> %(job)s::text -> 'since', to_jsonb(now())))),
       updated_by = excluded.updated_by, updated_at = greatest(known.updated_at, now())
RETURNING (value -> %(job)s::text ->> 'since')::timestamptz AS since""",
)

RESUME = Statement(
    "paused_jobs.resume",
    f"""
WITH paused AS (
    SELECT key, value -> %(job)s::text AS entry FROM settings
     WHERE key = '{PAUSED_JOBS_KEY}' AND value ? %(job)s::text FOR UPDATE)
UPDATE settings SET value = settings.value - %(job)s::text, updated_at = greatest(settings.updated_at, now())
  FROM paused WHERE settings.key = paused.key
RETURNING paused.entry ->> 'reason' AS reason, paused.entry ->> 'by' AS by,
          (paused.entry ->> 'since')::timestamptz AS since""",
)
