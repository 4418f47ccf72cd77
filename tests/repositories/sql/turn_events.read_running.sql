SELECT /* turn_events.read_running */ turns.user_id, turns.id, turns.conversation_id, turns.attempt,
       turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s) AS stale
  FROM unnest(%(user_ids)s::uuid[], %(turn_ids)s::uuid[]) AS subscribed(user_id, turn_id)
  JOIN turns ON turns.user_id = subscribed.user_id AND turns.id = subscribed.turn_id AND turns.status = 'running'
