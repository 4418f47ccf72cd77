UPDATE /* turns.release_lease */ conversations SET running_attempt = NULL, updated_at = greatest(updated_at, now())
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
   AND NOT EXISTS (SELECT FROM turns WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
                      AND attempt = %(attempt)s AND status = 'running')
RETURNING id
