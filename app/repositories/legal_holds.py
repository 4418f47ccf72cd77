"""The SQL of legal holds. Whoever lays or lifts one locks the conversation first, as everybody does."""

from app.repositories.statement import Statement

# `conversations.legal_hold` is what the owner's deletion looks at; the rows say why.
LAY = Statement(
    "legal_holds.lay",
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

LIFT = Statement(
    "legal_holds.lift",
    "DELETE FROM legal_holds WHERE user_id = %(user_id)s AND id = %(hold_id)s RETURNING conversation_id, reason",
)

# In a statement of its own, which sees what the one before left.
LET_GO = Statement(
    "legal_holds.let_go",
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
