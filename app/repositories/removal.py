"""The SQL of deleting a conversation that is too long for one statement. Each step looks only at what it deletes:
row versions that went before, in the same transaction, would have to be passed over by all that come after.
"""

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
 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
   AND position > %(after)s AND position <= %(up_to)s""",
)

# No index of turns knows their places, so one scan goes through them all, and is read in steps.
OPEN_TURNS = Statement(
    "removal.open_turns",
    """
DECLARE removal_turns NO SCROLL CURSOR FOR
 SELECT id FROM turns WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s""",
)

NEXT_TURNS = Statement("removal.next_turns", "FETCH FORWARD %(step)s FROM removal_turns")

CLOSE_TURNS = Statement("removal.close_turns", "CLOSE removal_turns")

TURN_EVENTS = Statement(
    "removal.turn_events", "DELETE FROM turn_events WHERE user_id = %(user_id)s AND turn_id = ANY (%(turns)s::uuid[])"
)

TURNS = Statement("removal.turns", "DELETE FROM turns WHERE user_id = %(user_id)s AND id = ANY (%(turns)s::uuid[])")
