"""SQL of the messages that a provider is sent as history."""

from app.repositories.statement import Statement

HISTORY_OF_PROJECT = "(settings->>'history')::integer"


def recent_messages(limit: str) -> str:
    """Return the SELECT of the newest `limit` messages before `conversation.position`, newest first."""
    return f"""
    SELECT recent.* FROM conversation CROSS JOIN LATERAL (
        SELECT position, role, content, tool_calls, tool_call_id, metadata -> 'files' AS files FROM messages
         WHERE user_id = conversation.user_id AND conversation_id = conversation.id
           AND position < conversation.position
         ORDER BY position DESC LIMIT {limit}) AS recent"""  # constants


# `history`: those of `recent` that fit into %(history_chars)s characters, oldest first, as JSON. `newest`: the highest
# position read, before that limit.
HISTORY_COLUMNS = """
       (SELECT max(position) FROM recent) AS newest,
       (SELECT json_agg(json_build_object('role', role, 'content', content, 'tool_calls', tool_calls,
                                          'tool_call_id', tool_call_id, 'files', files) ORDER BY position)
          FROM (SELECT *, sum(coalesce(length(content), 0) + coalesce(length(tool_calls::text), 0))
                              OVER (ORDER BY position DESC) AS chars
                  FROM recent) AS sized
         WHERE chars <= %(history_chars)s) AS history"""

# A begin that waited for the row lock has read the history as it was before the wait; this reads it again.
REREAD_HISTORY = Statement(
    "turns.reread_history",
    f"""
WITH conversation AS (
    SELECT %(user_id)s AS user_id, %(conversation_id)s AS id, %(position)s AS position),
recent AS ({recent_messages("%(history)s")})
SELECT {HISTORY_COLUMNS.strip()}""",
)
