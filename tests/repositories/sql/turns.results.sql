SELECT /* turns.results */ DISTINCT ON (messages.tool_call_id) messages.tool_call_id, messages.content, messages.metadata
  FROM turns JOIN messages ON messages.user_id = turns.user_id AND messages.conversation_id = turns.conversation_id
                          AND messages.position >= turns.position
 WHERE turns.user_id = %(user_id)s AND turns.id = %(turn_id)s AND turns.conversation_id = %(conversation_id)s
   AND messages.turn_id = turns.id AND messages.role = 'tool' AND messages.tool_call_id = ANY (%(ids)s)
 ORDER BY messages.tool_call_id, messages.position DESC
