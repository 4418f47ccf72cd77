"""SQL of stored stream events. A row is a small batch of one attempt's events; a fenced attempt can write no more."""

from app.repositories.statement import Statement

# Batches of any number of turns: %(batches)s is a JSON list of {user_id, turn_id, attempt, sequence, events}. A batch
# is sent again if its reply was lost; ON CONFLICT then ignores it. The lock, in the order of the ids, makes a statement
# that closes the attempt wait for these events, or these find it closed: so a closed turn gets no more of them.
APPEND = Statement(
    "turn_events.append",
    """
WITH batch AS (
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
RETURNING sequence""",
)

# What the answer's metadata says of the files that the model gets. Its sequence is that of no event, so readers do not
# see it; the process that closes a stale attempt does.
METADATA_SEQUENCE, METADATA = 0, "answer.metadata"
RECORD_METADATA = Statement(
    "turn_events.record_metadata",
    f"""
INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
SELECT user_id, id, {METADATA_SEQUENCE}, attempt, json_build_array(json_build_array(
           {METADATA_SEQUENCE}, '{METADATA}', %(metadata)s::json))
  FROM turns WHERE user_id = %(user_id)s AND id = %(turn_id)s AND attempt = %(attempt)s AND status = 'running'
   FOR KEY SHARE
ON CONFLICT (user_id, turn_id, sequence) DO UPDATE SET attempt = excluded.attempt, events = excluded.events""",
)

# One page of the batches after the given sequence of each turn; the arrays have one length.
READ_AFTER = Statement(
    "turn_events.read_after",
    """
SELECT turn_events.turn_id, turn_events.attempt, turn_events.events
  FROM unnest(%(user_ids)s::uuid[], %(turn_ids)s::uuid[], %(after)s::integer[]) AS subscribed(user_id, turn_id, after)
  JOIN turn_events ON turn_events.user_id = subscribed.user_id AND turn_events.turn_id = subscribed.turn_id
                  AND turn_events.sequence > subscribed.after
 ORDER BY turn_events.turn_id, turn_events.sequence LIMIT %(batches)s""",
)

# Those of the given turns that are running. Read before READ_AFTER, so that no event of an ended turn is missed.
READ_RUNNING = Statement(
    "turn_events.read_running",
    """
SELECT turns.user_id, turns.id, turns.conversation_id, turns.attempt,
       turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s) AS stale
  FROM unnest(%(user_ids)s::uuid[], %(turn_ids)s::uuid[]) AS subscribed(user_id, turn_id)
  JOIN turns ON turns.user_id = subscribed.user_id AND turns.id = subscribed.turn_id AND turns.status = 'running'""",
)

# The process that runs the turn reads the request with its next heartbeat, and stores the events from then on.
REQUEST_STORAGE = Statement(
    "turn_events.request_storage",
    """
UPDATE turns SET events_wanted = true
 WHERE user_id = %(user_id)s AND id = %(turn_id)s AND status = 'running' AND NOT events_wanted RETURNING id""",
)
