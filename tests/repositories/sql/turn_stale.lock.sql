SELECT /* turns.lock_stale */ id FROM users
 WHERE id = %(user_id)s AND tokens_per_day IS NOT NULL FOR NO KEY UPDATE;
WITH /* turns.lock_stale */ conversation AS (
    SELECT user_id, id FROM conversations
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
       FOR NO KEY UPDATE)
SELECT turns.id FROM conversation JOIN turns ON turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
 WHERE turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s)
   FOR UPDATE OF turns
