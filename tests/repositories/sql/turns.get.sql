SELECT /* turns.get */ turns.id, turns.conversation_id, turns.attempt, turns.status, turns.position, turns.answer_position,
       turns.provider, turns.model, turns.input_tokens, turns.output_tokens, turns.finish_reason, turns.error,
       turns.started_at, turns.first_token_at, turns.finished_at, turns.last_sequence,
       turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s) AS stale
  FROM turns WHERE user_id = %(user_id)s AND id = %(turn_id)s
