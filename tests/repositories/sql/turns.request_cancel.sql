UPDATE /* turns.request_cancel */ turns SET cancel_requested_at = coalesce(cancel_requested_at, now())
 WHERE user_id = %(user_id)s AND id = %(turn_id)s AND status = 'running' RETURNING id
