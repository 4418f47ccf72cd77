"""SQL of running and ended turns: heartbeats, cancel requests, reads."""

from app.repositories.statement import Statement

TURN_COLUMNS = """turns.id, turns.conversation_id, turns.attempt, turns.status, turns.position, turns.answer_position,
       turns.provider, turns.model, turns.input_tokens, turns.output_tokens, turns.finish_reason, turns.error,
       turns.started_at, turns.first_token_at, turns.finished_at, turns.last_sequence"""

# For all running attempts of a process; the arrays have one length. An attempt that is missing from the result was
# closed by another process. SKIP LOCKED, so that one locked row does not delay the other heartbeats.
HEARTBEAT = Statement(
    "turns.heartbeat",
    """
WITH running AS (
    SELECT * FROM unnest(%(user_ids)s::uuid[], %(attempts)s::uuid[], %(turn_ids)s::uuid[])
               AS attempt(user_id, attempt, id)),
unlocked AS (
    SELECT turns.user_id, turns.id FROM turns JOIN running USING (user_id, id, attempt)
     WHERE turns.status = 'running' FOR NO KEY UPDATE OF turns SKIP LOCKED),
refreshed AS (
    UPDATE turns SET heartbeat_at = now() FROM unlocked
     WHERE turns.user_id = unlocked.user_id AND turns.id = unlocked.id)
SELECT turns.attempt, turns.cancel_requested_at, turns.events_wanted
  FROM turns JOIN running USING (user_id, id, attempt) WHERE turns.status = 'running'""",
)

REQUEST_CANCEL = Statement(
    "turns.request_cancel",
    """
UPDATE turns SET cancel_requested_at = coalesce(cancel_requested_at, now())
 WHERE user_id = %(user_id)s AND id = %(turn_id)s AND status = 'running' RETURNING id""",
)

GET = Statement(
    "turns.get",
    f"""
SELECT {TURN_COLUMNS},
       turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s) AS stale
  FROM turns WHERE user_id = %(user_id)s AND id = %(turn_id)s""",
)

# The turn of a conversation's newest message; null if the messages are in a bundle.
LAST_MESSAGE = Statement(
    "turns.last_message",
    """
SELECT conversations.next_position, conversations.storage, messages.turn_id
  FROM conversations LEFT JOIN messages ON messages.user_id = conversations.user_id
       AND messages.conversation_id = conversations.id AND messages.position = conversations.next_position - 1
 WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s""",
)

# The turn whose results of calls begin at a position, if it did not complete. A user's message there has declined them.
FAILED_APPROVAL = Statement(
    "turns.failed_approval",
    """
SELECT turns.id AS turn_id FROM messages JOIN turns ON turns.user_id = messages.user_id AND turns.id = messages.turn_id
 WHERE messages.user_id = %(user_id)s AND messages.conversation_id = %(conversation_id)s
   AND messages.position = %(position)s AND messages.role = 'tool'
   AND turns.status IN ('failed', 'cancelled', 'interrupted')""",
)

# The newest result of each of the calls that a turn has stored.
RESULTS = Statement(
    "turns.results",
    """
SELECT DISTINCT ON (messages.tool_call_id) messages.tool_call_id, messages.content, messages.metadata
  FROM turns JOIN messages ON messages.user_id = turns.user_id AND messages.conversation_id = turns.conversation_id
                          AND messages.position >= turns.position
 WHERE turns.user_id = %(user_id)s AND turns.id = %(turn_id)s AND turns.conversation_id = %(conversation_id)s
   AND messages.turn_id = turns.id AND messages.role = 'tool' AND messages.tool_call_id = ANY (%(ids)s)
 ORDER BY messages.tool_call_id, messages.position DESC""",
)

# The message at a position, with the conversation's title; the message's columns are null if it is in a bundle.
# `before`: the turn's messages between its first position and that one, without the user's, as JSON.
ANSWER = Statement(
    "turns.answer",
    """
SELECT messages.position, messages.role, messages.content, messages.tool_calls, messages.tool_call_id,
       messages.metadata, messages.created_at, conversations.title,
       (SELECT json_agg(json_build_object('role', earlier.role, 'content', earlier.content,
                                          'tool_calls', earlier.tool_calls, 'tool_call_id', earlier.tool_call_id,
                                          'metadata', earlier.metadata) ORDER BY earlier.position)
          FROM messages AS earlier
         WHERE earlier.user_id = %(user_id)s AND earlier.conversation_id = %(conversation_id)s
           AND earlier.position >= %(first_position)s AND earlier.position < %(position)s
           AND earlier.turn_id = %(turn_id)s AND earlier.role <> 'user') AS before
  FROM conversations LEFT JOIN messages ON messages.user_id = conversations.user_id
                    AND messages.conversation_id = conversations.id AND messages.position = %(position)s
 WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s""",
)
