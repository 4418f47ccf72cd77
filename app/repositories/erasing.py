"""The SQL that erases an account piece by piece, and keeps account of what is gone with each piece.

The order of locks is everybody's: the user, the conversation, the turn.
"""

from app.models.turn import TurnStatus
from app.repositories.statement import Statement

# What is gone of an account whose erasure has not come to its end.
SO_FAR = Statement("erasing.so_far", "SELECT rows FROM erasures_under_way WHERE account_id = %(user_id)s")

UNFINISHED = Statement(
    "erasing.unfinished",
    """
SELECT account_id, begun_at, rows FROM erasures_under_way
 WHERE begun_at < now() - make_interval(secs => %(seconds)s)
   AND EXISTS (SELECT FROM users WHERE users.id = erasures_under_way.account_id)
 ORDER BY begun_at LIMIT %(limit)s""",
)

NOTE = Statement(
    "erasing.note",
    """
INSERT INTO erasures_under_way (account_id, rows) VALUES (%(user_id)s, %(rows)s::jsonb)
ON CONFLICT (account_id) DO UPDATE SET rows = excluded.rows""",
)

FORGET = Statement("erasing.forget", "DELETE FROM erasures_under_way WHERE account_id = %(user_id)s")

COUNT = Statement("erasing.count", "SELECT count(*) AS conversations FROM conversations WHERE user_id = %(user_id)s")

NEXT = Statement(
    "erasing.next",
    """
SELECT id, next_position FROM conversations WHERE user_id = %(user_id)s AND NOT legal_hold
 ORDER BY id LIMIT %(limit)s""",
)

# Nobody writes into them from now on, but for the streams of turns that are still running: those are locked, too. A
# hold that was placed meanwhile is respected: then the row is not among these.
LOCK = Statement(
    "erasing.lock",
    """
SELECT id, next_position FROM conversations
 WHERE user_id = %(user_id)s AND id = ANY (%(conversations)s::uuid[]) AND NOT legal_hold
 ORDER BY id FOR UPDATE""",
)

LOCK_TURNS = Statement(
    "erasing.lock_turns",
    f"""
SELECT id FROM turns
 WHERE user_id = %(user_id)s AND conversation_id = ANY (%(conversations)s::uuid[]) AND status = '{TurnStatus.RUNNING}'
 ORDER BY id FOR UPDATE""",
)

_OF_THEM = "user_id = %(user_id)s AND conversation_id = ANY (%(conversations)s::uuid[])"

# All that belongs to them, table by table instead of by cascade, because a cascade does not say how much it took.
CONVERSATIONS = Statement(
    "erasing.conversations",
    f"""
WITH those AS MATERIALIZED (SELECT id FROM turns WHERE {_OF_THEM}),
e AS (DELETE FROM turn_events WHERE user_id = %(user_id)s AND turn_id IN (SELECT id FROM those) RETURNING 1),
t AS (DELETE FROM turns WHERE {_OF_THEM} RETURNING 1),
m AS (DELETE FROM messages WHERE {_OF_THEM} RETURNING 1),
s AS (DELETE FROM conversation_search WHERE {_OF_THEM} RETURNING 1),
a AS (DELETE FROM conversation_archives WHERE {_OF_THEM} RETURNING 1),
c AS (DELETE FROM conversations WHERE user_id = %(user_id)s AND id = ANY (%(conversations)s::uuid[]) RETURNING 1)
SELECT (SELECT count(*) FROM e) AS turn_events, (SELECT count(*) FROM t) AS turns,
       (SELECT count(*) FROM m) AS messages, (SELECT count(*) FROM s) AS conversation_search,
       (SELECT count(*) FROM a) AS conversation_archives, (SELECT count(*) FROM c) AS conversations""",
)

LOCK_ACCOUNT = Statement("erasing.lock_account", "SELECT id FROM users WHERE id = %(user_id)s FOR UPDATE")
