"""SQL of the texts of files and their passages.

An extraction is claimed by its number of attempts: what it writes is stored only while the row still has that number.
"""

from app.enums import FileTextFailure, FileTextState
from app.repositories.statement import Statement

# The foreign key that a passage of a deleted file violates.
FOREIGN_KEYS = frozenset({"fk_file_passages_file_texts"})

_CLAIMED = f"""user_id = %(user_id)s AND file_id = %(file_id)s AND attempts = %(attempt)s
   AND state = '{FileTextState.PENDING}'"""

# The next pending file of the next user after %(after)s: so each user in turn has one file extracted.
CLAIM = Statement(
    "file_texts.claim",
    f"""
WITH next AS (
    SELECT user_id, file_id FROM file_texts
     WHERE state = '{FileTextState.PENDING}' AND retry_at <= now() AND attempts < %(attempts)s AND user_id > %(after)s
     ORDER BY user_id, file_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
UPDATE file_texts AS t
   SET attempts = t.attempts + 1, retry_at = now() + make_interval(secs => %(seconds)s),
       updated_at = greatest(now(), t.updated_at)
  FROM next JOIN files AS f ON f.user_id = next.user_id AND f.id = next.file_id
            JOIN file_contents AS c ON c.user_id = f.user_id AND c.sha256 = f.sha256
 WHERE t.user_id = next.user_id AND t.file_id = next.file_id
RETURNING t.user_id, t.file_id, t.attempts AS attempt, f.media_type, c.object""",
)

# Those whose last attempt ended with its process, and what it has written.
GIVE_UP = Statement(
    "file_texts.give_up",
    f"""
WITH failed AS (
    UPDATE file_texts SET state = '{FileTextState.FAILED}', reason = '{FileTextFailure.CRASHED}',
           updated_at = greatest(now(), updated_at)
     WHERE state = '{FileTextState.PENDING}' AND retry_at <= now() AND attempts >= %(attempts)s
    RETURNING user_id, file_id),
gone AS (
    DELETE FROM file_passages AS p USING failed WHERE p.user_id = failed.user_id AND p.file_id = failed.file_id)
SELECT count(*) AS files FROM failed""",
)

# Of the next files after a key, the last key, and how many of them an older release has stored without a text.
QUEUE_MISSING = Statement(
    "file_texts.queue_missing",
    """
WITH page AS (
    SELECT f.user_id, f.id, f.media_type FROM files AS f
     WHERE (f.user_id, f.id) > (%(user_id)s, %(file_id)s)
     ORDER BY f.user_id, f.id LIMIT %(batch)s),
added AS (
    INSERT INTO file_texts (user_id, file_id)
    SELECT user_id, id FROM page
     WHERE media_type NOT LIKE 'image/%%'
       AND NOT EXISTS (SELECT FROM file_texts AS t WHERE t.user_id = page.user_id AND t.file_id = page.id)
        ON CONFLICT (user_id, file_id) DO NOTHING
    RETURNING file_id)
SELECT page.user_id, page.id AS file_id, (SELECT count(*) FROM page) AS files, (SELECT count(*) FROM added) AS queued
  FROM page ORDER BY page.user_id DESC, page.id DESC LIMIT 1""",
)

COUNT_PENDING = Statement(
    "file_texts.count_pending",
    f"""
SELECT count(*) AS files
  FROM (SELECT FROM file_texts WHERE state = '{FileTextState.PENDING}' LIMIT 10000) AS pending""",
)

DELETE_PASSAGES = Statement(
    "file_texts.delete_passages",
    f"""
DELETE FROM file_passages WHERE user_id = %(user_id)s AND file_id = %(file_id)s
   AND EXISTS (SELECT FROM file_texts WHERE {_CLAIMED})""",
)

WRITE_PASSAGES = Statement(
    "file_texts.write_passages",
    f"""
INSERT INTO file_passages (user_id, file_id, ordinal, start, page, content, search)
SELECT %(user_id)s, %(file_id)s, *
  FROM unnest(%(ordinals)s::integer[], %(starts)s::integer[], %(pages)s::integer[], %(contents)s::text[],
              %(searches)s::tsvector[])
 WHERE EXISTS (SELECT FROM file_texts WHERE {_CLAIMED})
ON CONFLICT (user_id, file_id, ordinal) DO NOTHING""",
)

FINISH = Statement(
    "file_texts.finish",
    f"""
UPDATE file_texts
   SET state = %(state)s, reason = %(reason)s, characters = %(characters)s, truncated = %(truncated)s,
       updated_at = greatest(now(), updated_at)
 WHERE {_CLAIMED}""",
)

# With `refund`, the attempt does not count.
RETRY = Statement(
    "file_texts.retry",
    f"""
UPDATE file_texts
   SET retry_at = now() + make_interval(secs => %(seconds)s), attempts = attempts - %(refund)s,
       updated_at = greatest(now(), updated_at)
 WHERE {_CLAIMED}""",
)
