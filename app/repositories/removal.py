"""The SQL of deleting a conversation that is too long for one statement."""

from app.repositories.statement import Statement

LOCK = Statement(
    "removal.lock",
    """
SELECT next_position FROM conversations
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND NOT legal_hold
   AND (running_attempt IS NULL OR running_attempt = %(stale)s) FOR UPDATE""",
)

MESSAGES = Statement(
    "removal.messages",
    """
DELETE FROM messages
 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s AND position <= %(up_to)s""",
)

TURNS = Statement(
    "removal.turns",
    """
DELETE FROM turns
 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s AND position <= %(up_to)s""",
)
