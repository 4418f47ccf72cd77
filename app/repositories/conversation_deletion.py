"""SQL of deleting a conversation that is too long for one statement.

Each step reads only the rows that it deletes: dead row versions of earlier steps of the same transaction would slow
down the later ones.
"""

from app.repositories.statement import Statement

LOCK = Statement(
    "conversation_deletion.lock",
    """
SELECT next_position FROM conversations
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND NOT legal_hold
   AND (running_attempt IS NULL OR running_attempt = %(stale)s) FOR UPDATE""",
)

MESSAGES = Statement(
    "conversation_deletion.messages",
    """
DELETE FROM messages
 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
   AND position > %(after)s AND position <= %(up_to)s""",
)

# No index orders the turns of a conversation, so one scan finds all of them, and a cursor reads it in steps.
OPEN_TURNS = Statement(
    "conversation_deletion.open_turns",
    """
DECLARE removal_turns NO SCROLL CURSOR FOR
 SELECT id FROM turns WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s""",
)

NEXT_TURNS = Statement("conversation_deletion.next_turns", "FETCH FORWARD %(step)s FROM removal_turns")

CLOSE_TURNS = Statement("conversation_deletion.close_turns", "CLOSE removal_turns")

TURN_EVENTS = Statement(
    "conversation_deletion.turn_events",
    "DELETE FROM turn_events WHERE user_id = %(user_id)s AND turn_id = ANY (%(turns)s::uuid[])",
)

TOOL_CALLS = Statement(
    "conversation_deletion.tool_calls",
    "DELETE FROM tool_calls WHERE user_id = %(user_id)s AND turn_id = ANY (%(turns)s::uuid[])",
)

TURNS = Statement(
    "conversation_deletion.turns", "DELETE FROM turns WHERE user_id = %(user_id)s AND id = ANY (%(turns)s::uuid[])"
)
