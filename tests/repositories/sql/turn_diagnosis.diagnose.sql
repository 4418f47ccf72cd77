SELECT /* turns.diagnose */ EXISTS (
           SELECT FROM sessions JOIN users ON users.id = sessions.user_id
            WHERE sessions.user_id = %(user_id)s AND sessions.id = %(session_id)s
              AND sessions.revoked_at IS NULL AND sessions.expires_at > now() AND users.status = 'active') AS caller_live,
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
        AND running.attempt = conversation.running_attempt AND running.status = 'running'
