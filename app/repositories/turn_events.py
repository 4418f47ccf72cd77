"""The SQL of what streams said. Batches are small, and carry their attempt: one that was fenced writes nothing more."""

from app.repositories.statement import Statement

# All the news of a process at once. %(batches)s is a JSON list of {user_id, turn_id, attempt, sequence, events}.
# A batch whose reply was lost is sent again, hence the conflict that means nothing.
APPEND = Statement(
    "turn_events.append",
    """
INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
SELECT batch.user_id, batch.turn_id, batch.sequence, batch.attempt, batch.events
  FROM json_to_recordset(%(batches)s::json) AS batch(user_id uuid, turn_id uuid, attempt uuid, sequence integer,
                                                     events json)
 WHERE EXISTS (SELECT FROM turns WHERE turns.user_id = batch.user_id AND turns.id = batch.turn_id
                  AND turns.attempt = batch.attempt AND turns.status = 'running')
ON CONFLICT DO NOTHING
RETURNING sequence""",
)

# From all the turns that a process follows: what came after what it has, a page of it. Arrays of the same length.
NEWS = Statement(
    "turn_events.news",
    """
SELECT turn_events.turn_id, turn_events.attempt, turn_events.events
  FROM unnest(%(user_ids)s::uuid[], %(turn_ids)s::uuid[], %(after)s::integer[]) AS mine(user_id, turn_id, after)
  JOIN turn_events ON turn_events.user_id = mine.user_id AND turn_events.turn_id = mine.turn_id
                  AND turn_events.sequence > mine.after
 ORDER BY turn_events.turn_id, turn_events.sequence LIMIT %(batches)s""",
)

# Which of them are still being answered; asked before the news, so that none of an ended turn's is missing.
RUNNING = Statement(
    "turn_events.running",
    """
SELECT turns.user_id, turns.id, turns.conversation_id, turns.attempt,
       turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s) AS stale
  FROM unnest(%(user_ids)s::uuid[], %(turn_ids)s::uuid[]) AS mine(user_id, turn_id)
  JOIN turns ON turns.user_id = mine.user_id AND turns.id = mine.turn_id AND turns.status = 'running'""",
)

# Heard by the process that answers with its next heartbeat; from then on it stores what it says.
WANT = Statement(
    "turn_events.want",
    """
UPDATE turns SET events_wanted = true
 WHERE user_id = %(user_id)s AND id = %(turn_id)s AND status = 'running' AND NOT events_wanted RETURNING id""",
)
