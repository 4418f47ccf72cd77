"""SQL of exported and imported conversations."""

from app.repositories.message_insert import insert_messages
from app.repositories.statement import Statement

OPEN = Statement(
    "exports.open",
    """
SELECT id, title, status, project_id, metadata, message_count, next_position, created_at, updated_at
  FROM conversations WHERE user_id = %(user_id)s AND id = %(conversation_id)s""",
)

# The next messages before %(end)s: as many as begin within %(bytes)s bytes, and at most %(messages)s.
PAGE = Statement(
    "exports.page",
    """
SELECT position, role, content, tool_calls, tool_call_id, metadata, turn_id, created_at
  FROM (SELECT *, sum(coalesce(octet_length(content), 0)) OVER (ORDER BY position)
                  - coalesce(octet_length(content), 0) AS before
          FROM (SELECT * FROM messages
                 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
                   AND position > %(after)s AND position < %(end)s
                 ORDER BY position LIMIT %(messages)s) AS next) AS measured
 WHERE before < %(bytes)s ORDER BY position""",
)

# %(messages)s is a JSON list in order. A time in the future becomes now.
_INSERT_MESSAGES = insert_messages(
    """c CROSS JOIN json_to_recordset(%(messages)s::json) AS item(
           position integer, role text, content text, tool_calls jsonb, tool_call_id text, metadata jsonb,
           created_at timestamptz)""",
    user_id="c.user_id",
    conversation_id="c.id",
    position="item.position",
    created_at="least(item.created_at, now())",
)

IMPORT = Statement(
    "exports.import",
    f"""
WITH c AS (
    INSERT INTO conversations (user_id, id, title, preview, status, metadata, message_count, next_position)
    VALUES (%(user_id)s, %(conversation_id)s, %(title)s, %(preview)s, %(status)s, %(metadata)s::jsonb,
            %(count)s, %(count)s + 1)
    RETURNING *),
m AS ({_INSERT_MESSAGES})
SELECT id, title, preview, status, project_id, metadata AS meta, message_count, legal_hold, created_at, updated_at
  FROM c""",
)
