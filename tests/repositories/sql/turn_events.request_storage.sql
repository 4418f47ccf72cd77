UPDATE /* turn_events.request_storage */ turns SET events_wanted = true
 WHERE user_id = %(user_id)s AND id = %(turn_id)s AND status = 'running' AND NOT events_wanted RETURNING id
