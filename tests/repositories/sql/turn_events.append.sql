WITH /* turn_events.append */ batch AS (
    SELECT * FROM json_to_recordset(%(batches)s::json)
               AS batch(user_id uuid, turn_id uuid, attempt uuid, sequence integer, events json)),
running AS (
    SELECT turns.user_id, turns.id, turns.attempt FROM turns
     WHERE (turns.user_id, turns.id, turns.attempt) IN (SELECT user_id, turn_id, attempt FROM batch)
       AND turns.status = 'running'
     ORDER BY turns.user_id, turns.id FOR KEY SHARE OF turns)
INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
SELECT batch.user_id, batch.turn_id, batch.sequence, batch.attempt, batch.events
  FROM batch JOIN running ON running.user_id = batch.user_id AND running.id = batch.turn_id
                         AND running.attempt = batch.attempt
ON CONFLICT DO NOTHING
RETURNING sequence
