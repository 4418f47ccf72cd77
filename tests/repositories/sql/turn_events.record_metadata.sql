INSERT /* turn_events.record_metadata */ INTO turn_events (user_id, turn_id, sequence, attempt, events)
SELECT user_id, id, 0, attempt, json_build_array(json_build_array(
           0, 'answer.metadata', %(metadata)s::json))
  FROM turns WHERE user_id = %(user_id)s AND id = %(turn_id)s AND attempt = %(attempt)s AND status = 'running'
   FOR KEY SHARE
ON CONFLICT (user_id, turn_id, sequence) DO UPDATE SET attempt = excluded.attempt, events = excluded.events
