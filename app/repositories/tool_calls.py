"""SQL of the recorded calls of tools that must not be repeated."""

from app.repositories.statement import Statement

# Records a call of a running attempt before it is made. Always one row: `running` is false if the attempt was closed;
# `begun` is false if the call was recorded before, then the other columns are of the earlier record. The key share lock
# makes a statement that closes the attempt wait for this record, or this finds the attempt closed.
BEGIN = Statement(
    "tool_calls.begin",
    """
WITH running AS (
    SELECT user_id, id FROM turns
     WHERE user_id = %(user_id)s AND id = %(turn_id)s AND attempt = %(attempt)s AND status = 'running'
       FOR KEY SHARE),
begun AS (
    INSERT INTO tool_calls (user_id, turn_id, key, tool, attempt, state)
    SELECT user_id, %(ledger_turn_id)s, %(key)s, %(tool)s, %(attempt)s, 'begun' FROM running
    ON CONFLICT (user_id, turn_id, key) DO NOTHING
    RETURNING key)
SELECT EXISTS (SELECT FROM running) AS running, EXISTS (SELECT FROM begun) AS begun,
       earlier.state, earlier.content, earlier.is_error
  FROM (SELECT 1) AS single_row
  LEFT JOIN tool_calls AS earlier
         ON earlier.user_id = %(user_id)s AND earlier.turn_id = %(ledger_turn_id)s AND earlier.key = %(key)s""",
)

FINISH = Statement(
    "tool_calls.finish",
    """
UPDATE tool_calls SET state = %(state)s, content = %(content)s, is_error = %(is_error)s, finished_at = now()
 WHERE user_id = %(user_id)s AND turn_id = %(ledger_turn_id)s AND key = %(key)s AND attempt = %(attempt)s
   AND state = 'begun'""",
)
