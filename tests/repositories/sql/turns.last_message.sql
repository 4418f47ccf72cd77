SELECT /* turns.last_message */ conversations.next_position, conversations.storage, messages.turn_id
  FROM conversations LEFT JOIN messages ON messages.user_id = conversations.user_id
       AND messages.conversation_id = conversations.id AND messages.position = conversations.next_position - 1
 WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s
