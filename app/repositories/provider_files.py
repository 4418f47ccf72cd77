"""SQL of the copies of files at providers. The jobs that use it serve all users.

`providers` are the names that the operator allows, `default` is the provider of projects that name none.
"""

from app.repositories.statement import Statement

# Whether the project `p` of a file opts into copies at a provider.
_OPTED_IN = "p.provider_files AND coalesce(p.provider, %(default)s) = ANY(%(providers)s)"

# The lock keeps the files until the rows refer to them. A file that is being deleted is left out.
ADD = Statement(
    "provider_files.add",
    f"""
INSERT INTO provider_files (user_id, file_id, provider)
SELECT f.user_id, f.id, coalesce(p.provider, %(default)s)
  FROM projects AS p JOIN files AS f ON f.user_id = p.user_id AND f.project_id = p.id
 WHERE {_OPTED_IN}
   AND NOT EXISTS (SELECT FROM provider_files AS r WHERE r.user_id = f.user_id AND r.file_id = f.id
                      AND r.provider = coalesce(p.provider, %(default)s))
 LIMIT %(batch)s
   FOR KEY SHARE OF f SKIP LOCKED
ON CONFLICT DO NOTHING""",
)

# Copies whose project does not opt in any more: their deletion at the provider is recorded in the same statement.
WITHDRAW = Statement(
    "provider_files.withdraw",
    f"""
WITH unwanted AS (
    SELECT r.user_id, r.file_id, r.provider FROM provider_files AS r
     WHERE r.state <> 'removing'
       AND NOT EXISTS (SELECT FROM files AS f JOIN projects AS p ON p.user_id = f.user_id AND p.id = f.project_id
                        WHERE f.user_id = r.user_id AND f.id = r.file_id AND {_OPTED_IN}
                          AND coalesce(p.provider, %(default)s) = r.provider)
     LIMIT %(batch)s FOR UPDATE OF r SKIP LOCKED
), withdrawn AS (
    UPDATE provider_files AS r SET state = 'removing', reason = NULL, updated_at = greatest(r.updated_at, now())
      FROM unwanted AS u WHERE (r.user_id, r.file_id, r.provider) = (u.user_id, u.file_id, u.provider)
    RETURNING r.provider, r.remote_id
), recorded AS (
    INSERT INTO provider_file_removals (provider, remote_id)
    SELECT provider, remote_id FROM withdrawn WHERE remote_id IS NOT NULL
        ON CONFLICT (provider, remote_id) DO NOTHING
)
SELECT count(*) AS rows FROM withdrawn""",
)
DELETE_WITHDRAWN = Statement(
    "provider_files.delete_withdrawn", "DELETE FROM provider_files WHERE state = 'removing' AND remote_id IS NULL"
)

# Users take turns, so that one with thousands of files does not delay the others.
DUE = Statement(
    "provider_files.due",
    """
SELECT user_id, file_id, provider FROM (
    SELECT r.user_id, r.file_id, r.provider, r.next_attempt_at,
           row_number() OVER (PARTITION BY r.user_id ORDER BY r.next_attempt_at, r.file_id) AS turn
      FROM provider_files AS r
     WHERE r.state IN ('pending', 'failed') AND r.next_attempt_at <= now() AND r.provider = ANY(%(providers)s)
) AS due ORDER BY turn, next_attempt_at, file_id LIMIT %(batch)s""",
)

# Begins an attempt, if its project still opts in. An attempt that ends with its process is repeated after `seconds`.
CLAIM = Statement(
    "provider_files.claim",
    f"""
UPDATE provider_files AS r
   SET attempts = r.attempts + 1, next_attempt_at = now() + make_interval(secs => %(seconds)s),
       updated_at = greatest(r.updated_at, now())
  FROM files AS f
  JOIN projects AS p ON p.user_id = f.user_id AND p.id = f.project_id
  JOIN file_contents AS c ON c.user_id = f.user_id AND c.sha256 = f.sha256
 WHERE r.user_id = %(user_id)s AND r.file_id = %(file_id)s AND r.provider = %(provider)s
   AND r.state IN ('pending', 'failed') AND r.next_attempt_at <= now()
   AND f.user_id = r.user_id AND f.id = r.file_id
   AND {_OPTED_IN} AND coalesce(p.provider, %(default)s) = r.provider
RETURNING f.name, f.media_type, f.bytes, c.object, r.attempts""",
)
_KEY = "user_id = %(user_id)s AND file_id = %(file_id)s AND provider = %(provider)s"
UPLOADED = Statement(
    "provider_files.uploaded",
    f"""
UPDATE provider_files
   SET state = 'uploaded', remote_id = %(remote_id)s, reason = NULL, next_attempt_at = NULL,
       updated_at = greatest(updated_at, now())
 WHERE {_KEY} AND state IN ('pending', 'failed') AND attempts = %(attempts)s""",
)
FAILED = Statement(
    "provider_files.failed",
    f"""
UPDATE provider_files
   SET state = %(state)s, reason = %(reason)s, next_attempt_at = now() + make_interval(secs => %(seconds)s),
       updated_at = greatest(updated_at, now())
 WHERE {_KEY} AND state IN ('pending', 'failed') AND attempts = %(attempts)s""",
)

REMOVE = Statement(
    "provider_files.remove",
    """
INSERT INTO provider_file_removals (provider, remote_id)
SELECT %(provider)s, o.id FROM unnest(%(remote_ids)s::text[]) AS o(id)
    ON CONFLICT (provider, remote_id) DO NOTHING""",
)
REMOVALS = Statement(
    "provider_files.removals",
    """
SELECT provider, remote_id, attempts FROM provider_file_removals
 WHERE next_attempt_at <= now() AND provider = ANY(%(providers)s)
 ORDER BY next_attempt_at, remote_id LIMIT %(batch)s""",
)
REMOVAL_FAILED = Statement(
    "provider_files.removal_failed",
    """
UPDATE provider_file_removals
   SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => %(seconds)s)
 WHERE provider = %(provider)s AND remote_id = %(remote_id)s""",
)
# In this order: the trigger of the first one would record the removal again.
REMOVED = (
    Statement(
        "provider_files.removed_copy",
        """
DELETE FROM provider_files WHERE provider = %(provider)s AND remote_id = %(remote_id)s AND state = 'removing'""",
    ),
    Statement(
        "provider_files.removed",
        "DELETE FROM provider_file_removals WHERE provider = %(provider)s AND remote_id = %(remote_id)s",
    ),
)

# Of these ids of files at a provider, those that no row has.
UNKNOWN = Statement(
    "provider_files.unknown",
    """
SELECT o.id FROM unnest(%(remote_ids)s::text[]) AS o(id)
 WHERE NOT EXISTS (SELECT FROM provider_files AS r WHERE r.provider = %(provider)s AND r.remote_id = o.id)
   AND NOT EXISTS (SELECT FROM provider_file_removals AS r WHERE r.provider = %(provider)s AND r.remote_id = o.id)""",
)
# The uploaded copies at a provider that are older than a time, in pages.
COPIES = Statement(
    "provider_files.copies",
    """
SELECT remote_id FROM provider_files
 WHERE provider = %(provider)s AND state = 'uploaded' AND remote_id > %(after)s AND updated_at < %(before)s
 ORDER BY remote_id LIMIT %(batch)s""",
)
UPLOAD_AGAIN = Statement(
    "provider_files.upload_again",
    """
UPDATE provider_files
   SET state = 'pending', remote_id = NULL, attempts = 0, next_attempt_at = now(),
       updated_at = greatest(updated_at, now())
 WHERE provider = %(provider)s AND remote_id = %(remote_id)s AND state = 'uploaded'""",
)
IN_USE = Statement(
    "provider_files.in_use",
    """
SELECT DISTINCT provider FROM provider_files UNION SELECT DISTINCT provider FROM provider_file_removals""",
)

# Names this database, and not a copy of it on another server.
INSTALLATION = Statement(
    "provider_files.installation",
    "SELECT system_identifier::text || '/' || current_database() AS name FROM pg_control_system()",
)
OVERDUE = Statement(
    "provider_files.overdue",
    """
SELECT provider, count(*) AS rows, min(created_at) AS since FROM provider_file_removals
 WHERE created_at < now() - make_interval(hours => %(hours)s) GROUP BY provider ORDER BY provider""",
)
GIVEN_UP = Statement(
    "provider_files.given_up",
    """
SELECT provider, count(*) AS rows, min(reason) AS reason FROM provider_files
 WHERE state = 'failed' GROUP BY provider ORDER BY provider""",
)
