"""SQL of erasing a user in steps, each of which records what it has deleted.

Rows are locked in the usual order: user, conversation, turn.
"""

from app.enums import TurnStatus
from app.repositories.statement import Statement

# The rows that an unfinished erasure has deleted so far.
PROGRESS = Statement("erasure.progress", "SELECT rows, receipt_id FROM pending_erasures WHERE account_id = %(user_id)s")

# An erasure that the user has requested; it may have been started before by an operator.
REQUEST = Statement(
    "erasure.request",
    """
INSERT INTO pending_erasures (account_id, rows, receipt_id) VALUES (%(user_id)s, '{}', %(receipt_id)s)
ON CONFLICT (account_id) DO UPDATE SET receipt_id = coalesce(pending_erasures.receipt_id, excluded.receipt_id)
RETURNING receipt_id""",
)

REQUESTED = Statement(
    "erasure.requested",
    """
SELECT account_id AS user_id FROM pending_erasures
 WHERE receipt_id IS NOT NULL AND begun_at < now() - make_interval(secs => %(seconds)s)
   AND (%(after)s::uuid IS NULL OR account_id > %(after)s)
 ORDER BY account_id LIMIT %(limit)s""",
)

# Of a receipt, or of a requested erasure that is not completed.
RECEIPT_OF_REQUEST = Statement(
    "erasure.receipt_of_request",
    """
SELECT id AS receipt_id, rows, backups, erased_at, objects_deleted_at, provider_copies_deleted_at
  FROM erasures WHERE id = %(receipt_id)s
UNION ALL
SELECT receipt_id, NULL, NULL, NULL, NULL, NULL FROM pending_erasures WHERE receipt_id = %(receipt_id)s
 LIMIT 1""",
)

# Before the rows are deleted: the triggers, which record the same, have no receipt.
RECORD_REMOVALS = (
    Statement(
        "erasure.record_objects",
        """
INSERT INTO file_removals (object, receipt_id)
SELECT object, %(receipt_id)s FROM file_contents WHERE user_id = %(user_id)s
    ON CONFLICT (object) DO UPDATE SET receipt_id = excluded.receipt_id""",
    ),
    Statement(
        "erasure.record_provider_copies",
        """
INSERT INTO provider_file_removals (provider, remote_id, receipt_id)
SELECT provider, remote_id, %(receipt_id)s FROM provider_files WHERE user_id = %(user_id)s AND remote_id IS NOT NULL
    ON CONFLICT (provider, remote_id) DO UPDATE SET receipt_id = excluded.receipt_id""",
    ),
)
OBJECTS_DELETED = Statement(
    "erasure.objects_deleted",
    """
UPDATE erasures SET objects_deleted_at = now()
 WHERE objects_deleted_at IS NULL
   AND NOT EXISTS (SELECT FROM file_removals AS r WHERE r.receipt_id = erasures.id)""",
)
PROVIDER_COPIES_DELETED = Statement(
    "erasure.provider_copies_deleted",
    """
UPDATE erasures SET provider_copies_deleted_at = now()
 WHERE provider_copies_deleted_at IS NULL
   AND NOT EXISTS (SELECT FROM provider_file_removals AS r WHERE r.receipt_id = erasures.id)""",
)

UNFINISHED = Statement(
    "erasure.unfinished",
    """
SELECT account_id AS user_id, begun_at, rows FROM pending_erasures
 WHERE begun_at < now() - make_interval(secs => %(seconds)s)
   AND EXISTS (SELECT FROM users WHERE users.id = pending_erasures.account_id)
 ORDER BY begun_at LIMIT %(limit)s""",
)

# Committed before anything changes, so that an erasure that is killed at any time is found as unfinished.
RECORD_BEGIN = Statement(
    "erasure.record_begin",
    """
INSERT INTO pending_erasures (account_id, rows) SELECT id, '{}' FROM users WHERE id = %(user_id)s
ON CONFLICT (account_id) DO NOTHING""",
)

RECORD_PROGRESS = Statement(
    "erasure.record_progress",
    """
INSERT INTO pending_erasures (account_id, rows) VALUES (%(user_id)s, %(rows)s::jsonb)
ON CONFLICT (account_id) DO UPDATE SET rows = excluded.rows""",
)

DELETE_PROGRESS = Statement("erasure.delete_progress", "DELETE FROM pending_erasures WHERE account_id = %(user_id)s")

COUNT = Statement("erasure.count", "SELECT count(*) AS conversations FROM conversations WHERE user_id = %(user_id)s")

NEXT = Statement(
    "erasure.next",
    """
SELECT id, next_position FROM conversations WHERE user_id = %(user_id)s AND NOT legal_hold
 ORDER BY id LIMIT %(limit)s""",
)

# Blocks all writes to these conversations, except by running turns, which LOCK_TURNS locks. A conversation that was put
# under a legal hold in the meantime is not returned.
LOCK = Statement(
    "erasure.lock",
    """
SELECT id, next_position FROM conversations
 WHERE user_id = %(user_id)s AND id = ANY (%(conversations)s::uuid[]) AND NOT legal_hold
 ORDER BY id FOR UPDATE""",
)

LOCK_TURNS = Statement(
    "erasure.lock_turns",
    f"""
SELECT id FROM turns
 WHERE user_id = %(user_id)s AND conversation_id = ANY (%(conversations)s::uuid[]) AND status = '{TurnStatus.RUNNING}'
 ORDER BY id FOR UPDATE""",
)

_OF_CONVERSATIONS = "user_id = %(user_id)s AND conversation_id = ANY (%(conversations)s::uuid[])"

# Deletes by table instead of by cascade, because a cascade does not return the number of rows.
CONVERSATIONS = Statement(
    "erasure.conversations",
    f"""
WITH ended AS MATERIALIZED (SELECT id FROM turns WHERE {_OF_CONVERSATIONS}),
o AS (DELETE FROM tool_calls WHERE user_id = %(user_id)s AND turn_id IN (SELECT id FROM ended) RETURNING 1),
e AS (DELETE FROM turn_events WHERE user_id = %(user_id)s AND turn_id IN (SELECT id FROM ended) RETURNING 1),
t AS (DELETE FROM turns WHERE {_OF_CONVERSATIONS} RETURNING 1),
m AS (DELETE FROM messages WHERE {_OF_CONVERSATIONS} RETURNING 1),
s AS (DELETE FROM conversation_search WHERE {_OF_CONVERSATIONS} RETURNING 1),
d AS (DELETE FROM search_documents WHERE {_OF_CONVERSATIONS} RETURNING 1),
a AS (DELETE FROM conversation_archives WHERE {_OF_CONVERSATIONS} RETURNING 1),
c AS (DELETE FROM conversations WHERE user_id = %(user_id)s AND id = ANY (%(conversations)s::uuid[]) RETURNING 1)
SELECT (SELECT count(*) FROM o) AS tool_calls, (SELECT count(*) FROM e) AS turn_events,
       (SELECT count(*) FROM t) AS turns,
       (SELECT count(*) FROM m) AS messages, (SELECT count(*) FROM s) AS conversation_search,
       (SELECT count(*) FROM d) AS search_documents,
       (SELECT count(*) FROM a) AS conversation_archives, (SELECT count(*) FROM c) AS conversations""",
)

LOCK_USER = Statement("erasure.lock_user", "SELECT id FROM users WHERE id = %(user_id)s FOR UPDATE")
