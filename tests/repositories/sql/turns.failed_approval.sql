SELECT /* turns.failed_approval */ turns.id AS turn_id FROM messages JOIN turns ON turns.user_id = messages.user_id AND turns.id = messages.turn_id
 WHERE messages.user_id = %(user_id)s AND messages.conversation_id = %(conversation_id)s
   AND messages.position = %(position)s AND messages.role = 'tool'
   AND turns.status IN ('failed', 'cancelled', 'interrupted')
