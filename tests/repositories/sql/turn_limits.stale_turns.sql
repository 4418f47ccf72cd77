SELECT /* turns.stale */ user_id, id AS turn_id, conversation_id, attempt FROM turns
 WHERE user_id = %(user_id)s AND status = 'running'
   AND heartbeat_at < now() - make_interval(secs => %(stale_seconds)s)
