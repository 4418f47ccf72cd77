"""SQL of legal holds. Placing or lifting one locks the conversation first, in the usual order."""

from app.repositories.statement import Statement

# `conversations.legal_hold` prevents the owner's deletion; the rows of legal_holds have the reasons.
PLACE = Statement(
    "legal_holds.place",
    """
WITH held AS (
    UPDATE conversations SET legal_hold = true WHERE user_id = %(user_id)s AND id = %(conversation_id)s
    RETURNING user_id, id)
INSERT INTO legal_holds (user_id, id, conversation_id, reason, placed_by)
SELECT user_id, %(hold_id)s, id, %(reason)s, %(placed_by)s FROM held RETURNING id""",
)

LOCK = Statement(
    "legal_holds.lock",
    """
SELECT conversations.user_id, conversations.id
  FROM legal_holds JOIN conversations ON conversations.user_id = legal_holds.user_id
                                     AND conversations.id = legal_holds.conversation_id
 WHERE legal_holds.id = %(hold_id)s FOR UPDATE OF conversations""",
)

OWNER = Statement("legal_holds.owner", "SELECT user_id FROM legal_holds WHERE id = %(hold_id)s")

LIFT = Statement(
    "legal_holds.lift",
    "DELETE FROM legal_holds WHERE user_id = %(user_id)s AND id = %(hold_id)s RETURNING conversation_id, reason",
)

# A separate statement, which sees the deletion by LIFT.
UPDATE_FLAG = Statement(
    "legal_holds.update_flag",
    """
UPDATE conversations
   SET legal_hold = EXISTS (SELECT FROM legal_holds
                             WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s)
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s RETURNING legal_hold""",
)

CONVERSATIONS = Statement(
    "legal_holds.conversations",
    """
SELECT id FROM conversations WHERE user_id = %(user_id)s AND id > %(after)s ORDER BY id LIMIT %(batch)s""",
)

PAGE = Statement(
    "legal_holds.page",
    """
SELECT id, user_id, conversation_id, reason, placed_by, placed_at FROM legal_holds
 WHERE (%(owner_id)s::uuid IS NULL OR user_id = %(owner_id)s) AND (user_id, id) > (%(after_user)s, %(after_id)s)
 ORDER BY user_id, id LIMIT %(limit)s""",
)
