"""SQL that reads why a begin returned no row, and releases a lease without a running turn."""

from app.repositories.statement import Statement
from app.repositories.turn_caller import live_caller


def _diagnose(*, by_key: bool) -> Statement:
    return Statement(
        "turns.diagnose",
        f"""
SELECT {live_caller(by_key=by_key)} AS caller_live,
       earlier.id AS earlier_turn_id, earlier.request_hash AS earlier_request_hash,
       EXISTS (SELECT FROM idempotency_keys WHERE user_id = %(user_id)s AND key = %(idempotency_key)s) AS other_request,
       conversation.id AS conversation_id, conversation.storage, conversation.running_attempt,
       conversation.next_position,
       running.id AS running_turn_id,
       -- No statement of Parley leaves a lease without a running turn, but one must not block the conversation forever.
       coalesce(running.heartbeat_at, conversation.updated_at) < now() - make_interval(secs => %(stale_seconds)s)
           AS stale
  FROM (SELECT 1) AS single_row
  LEFT JOIN turns AS earlier
         ON earlier.user_id = %(user_id)s AND earlier.idempotency_key = %(idempotency_key)s
  LEFT JOIN conversations AS conversation
         ON conversation.user_id = %(user_id)s AND conversation.id = %(conversation_id)s
  LEFT JOIN turns AS running
         ON running.user_id = conversation.user_id AND running.conversation_id = conversation.id
        AND running.attempt = conversation.running_attempt AND running.status = 'running'""",
    )


# Always one row. `BeginParameters` are its parameters.
DIAGNOSE, DIAGNOSE_BY_KEY = _diagnose(by_key=False), _diagnose(by_key=True)

RELEASE_LEASE = Statement(
    "turns.release_lease",
    """
UPDATE conversations SET running_attempt = NULL, updated_at = greatest(updated_at, now())
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
   AND NOT EXISTS (SELECT FROM turns WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
                      AND attempt = %(attempt)s AND status = 'running')
RETURNING id""",
)
