WITH /* turns.heartbeat */ running AS (
    SELECT * FROM unnest(%(user_ids)s::uuid[], %(attempts)s::uuid[], %(turn_ids)s::uuid[])
               AS attempt(user_id, attempt, id)),
unlocked AS (
    SELECT turns.user_id, turns.id FROM turns JOIN running USING (user_id, id, attempt)
     WHERE turns.status = 'running' FOR NO KEY UPDATE OF turns SKIP LOCKED),
refreshed AS (
    UPDATE turns SET heartbeat_at = now() FROM unlocked
     WHERE turns.user_id = unlocked.user_id AND turns.id = unlocked.id)
SELECT turns.attempt, turns.cancel_requested_at, turns.events_wanted
  FROM turns JOIN running USING (user_id, id, attempt) WHERE turns.status = 'running'
