WITH /* turns.finish */ conversation AS (
    UPDATE conversations
       SET next_position = next_position + %(count)s, message_count = message_count + %(count)s, running_attempt = NULL,
           preview = coalesce(%(preview)s, preview), updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
    RETURNING user_id, id, next_position - %(count)s AS position),
turn AS (
    UPDATE turns
       SET status = %(status)s, finished_at = now(), provider = %(provider)s,
           model = coalesce(%(model)s, CASE WHEN turns.provider = %(provider)s THEN model END),
           input_tokens = %(input_tokens)s, output_tokens = %(output_tokens)s, finish_reason = %(finish_reason)s,
           error = %(error)s::jsonb, first_token_at = now() - make_interval(secs => %(since_first_token)s),
           answer_position = CASE WHEN %(count)s > 0 THEN conversation.position + %(count)s - 1 END,
           last_sequence = %(last_sequence)s
      FROM conversation WHERE turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
    RETURNING turns.id, turns.conversation_id, turns.attempt, turns.status, turns.position, turns.answer_position,
       turns.provider, turns.model, turns.input_tokens, turns.output_tokens, turns.finish_reason, turns.error,
       turns.started_at, turns.first_token_at, turns.finished_at, turns.last_sequence),
new_messages AS (
    INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id, metadata,
                          turn_id, created_at)
    SELECT conversation.user_id, conversation.id, conversation.position + item.ordinal, item.role, item.content,
           item.tool_calls, item.tool_call_id, coalesce(item.metadata, '{}'), %(turn_id)s, now()
      FROM conversation CROSS JOIN json_to_recordset(%(messages)s::json) AS item(
           ordinal integer, role text, content text, tool_calls jsonb, tool_call_id text, metadata jsonb)),
new_events AS (
    INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
    SELECT user_id, %(turn_id)s, %(events_sequence)s, %(attempt)s, %(events)s::json
      FROM conversation WHERE %(events)s IS NOT NULL
    ON CONFLICT DO NOTHING)
SELECT * FROM turn
