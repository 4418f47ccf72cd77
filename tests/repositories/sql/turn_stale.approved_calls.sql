SELECT /* turns.read_approved_calls */ calls.tool_calls
  FROM turns JOIN messages AS calls ON calls.user_id = turns.user_id AND calls.conversation_id = turns.conversation_id
                                   AND calls.position = turns.position - 1
 WHERE turns.user_id = %(user_id)s AND turns.id = %(turn_id)s AND calls.tool_calls IS NOT NULL
   AND NOT EXISTS (
           SELECT FROM messages
            WHERE messages.user_id = turns.user_id AND messages.conversation_id = turns.conversation_id
              AND messages.position = turns.position AND messages.role = 'user')
