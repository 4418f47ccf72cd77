SELECT /* turns.read_stale_events */ sequence, events FROM turn_events
 WHERE user_id = %(user_id)s AND turn_id = %(turn_id)s AND attempt = %(attempt)s AND sequence > %(after)s
 ORDER BY sequence LIMIT %(batches)s
