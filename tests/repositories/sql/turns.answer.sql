SELECT /* turns.answer */ messages.position, messages.role, messages.content, messages.tool_calls, messages.tool_call_id,
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
 WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s
