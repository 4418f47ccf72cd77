"""The SQL of conversations that leave as a document and come in as one."""

from app.repositories.statement import Statement

OPEN = Statement(
    "exports.open",
    """
SELECT id, title, status, project_id, metadata, message_count, next_position, created_at, updated_at
  FROM conversations WHERE user_id = %(user_id)s AND id = %(conversation_id)s""",
)

# The next messages before %(end)s, as many as begin within %(bytes)s bytes, but no more than %(messages)s.
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

# A conversation with all its messages: both or neither. %(messages)s is a JSON list, in order; a time to come is now.
IMPORT = Statement(
    "exports.import",
    """
WITH c AS (
    INSERT INTO conversations (user_id, id, title, preview, status, metadata, message_count, next_position)
    VALUES (%(user_id)s, %(conversation_id)s, %(title)s, %(preview)s, %(status)s, %(metadata)s::jsonb,
            %(count)s, %(count)s + 1)
    RETURNING *),
m AS (
    INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id, metadata,
                          created_at)
    SELECT c.user_id, c.id, item.position, item.role, item.content, item.tool_calls, item.tool_call_id, item.metadata,
           least(item.created_at, now())
      FROM c CROSS JOIN json_to_recordset(%(messages)s::json) AS item(
           position integer, role text, content text, tool_calls jsonb, tool_call_id text, metadata jsonb,
           created_at timestamptz))
SELECT id, title, preview, status, project_id, metadata AS meta, message_count, legal_hold, created_at, updated_at
  FROM c""",
)
