"""SQL that closes a stale attempt: lock, read what its stored events hold, end it. Run as one transaction.

The statements lock in the usual order: user (only with a quota), conversation, turn.
"""

from app.repositories.statement import Statement
from app.repositories.turn_finish import NEW_MESSAGES, RELEASE_CONVERSATION
from app.repositories.turn_limits import charge_quota, locking_user

# No row if the attempt has sent a heartbeat since, or was closed. Events that are being stored take a key share lock on
# the turn, so FOR UPDATE waits for them; the next statement reads them, and later ones find the turn ended.
LOCK = Statement(
    "turns.lock_stale",
    locking_user(
        "turns.lock_stale",
        """
WITH conversation AS (
    SELECT user_id, id FROM conversations
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
       FOR NO KEY UPDATE)
SELECT turns.id FROM conversation JOIN turns ON turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
 WHERE turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s)
   FOR UPDATE OF turns""",
    ),
)

# The next batches of the attempt after a sequence.
EVENTS = Statement(
    "turns.read_stale_events",
    """
SELECT sequence, events FROM turn_events
 WHERE user_id = %(user_id)s AND turn_id = %(turn_id)s AND attempt = %(attempt)s AND sequence > %(after)s
 ORDER BY sequence LIMIT %(batches)s""",
)

# The calls that the turn makes or declines, if it began with their approval and not with a message of the user.
APPROVED_CALLS = Statement(
    "turns.read_approved_calls",
    """
SELECT calls.tool_calls
  FROM turns JOIN messages AS calls ON calls.user_id = turns.user_id AND calls.conversation_id = turns.conversation_id
                                   AND calls.position = turns.position - 1
 WHERE turns.user_id = %(user_id)s AND turns.id = %(turn_id)s AND calls.tool_calls IS NOT NULL
   AND NOT EXISTS (
           SELECT FROM messages
            WHERE messages.user_id = turns.user_id AND messages.conversation_id = turns.conversation_id
              AND messages.position = turns.position AND messages.role = 'user')""",
)

# Ends the locked attempt as interrupted, with %(count)s messages. Its reserved tokens are charged, because its
# usage is unknown. The last events that it sent to its own readers may not be stored, so `last_sequence` skips far
# ahead: no sequence is used twice.
CLOSE = Statement(
    "turns.close_stale",
    f"""
WITH conversation AS ({RELEASE_CONVERSATION}),
turn AS (
    UPDATE turns SET status = 'interrupted', finished_at = now(), error = %(error)s::jsonb,
           answer_position = CASE WHEN %(count)s > 0 THEN conversation.position + %(count)s - 1 END,
           last_sequence = 100000 + greatest(coalesce(last_sequence, 0), coalesce((
               SELECT max(sequence) FROM turn_events
                WHERE turn_events.user_id = conversation.user_id AND turn_events.turn_id = turns.id), 0))
      FROM conversation WHERE turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
    RETURNING turns.id, turns.user_id, turns.quota_tokens),
new_messages AS ({NEW_MESSAGES}),
quota AS ({charge_quota("turn.quota_tokens", "turn")})
SELECT id FROM turn""",
)
