SELECT /* turn_events.read_after */ turn_events.turn_id, turn_events.attempt, turn_events.events
  FROM unnest(%(user_ids)s::uuid[], %(turn_ids)s::uuid[], %(after)s::integer[]) AS subscribed(user_id, turn_id, after)
  JOIN turn_events ON turn_events.user_id = subscribed.user_id AND turn_events.turn_id = subscribed.turn_id
                  AND turn_events.sequence > subscribed.after
 ORDER BY turn_events.turn_id, turn_events.sequence LIMIT %(batches)s
