WITH /* turns.close_stale */ conversation AS (
    UPDATE conversations
       SET next_position = next_position + %(count)s, message_count = message_count + %(count)s, running_attempt = NULL,
           preview = coalesce(%(preview)s, preview), updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
    RETURNING user_id, id, next_position - %(count)s AS position),
turn AS (
    UPDATE turns SET status = 'interrupted', finished_at = now(), error = %(error)s::jsonb,
           answer_position = CASE WHEN %(count)s > 0 THEN conversation.position + %(count)s - 1 END,
           last_sequence = 100000 + greatest(coalesce(last_sequence, 0), coalesce((
               SELECT max(sequence) FROM turn_events
                WHERE turn_events.user_id = conversation.user_id AND turn_events.turn_id = turns.id), 0))
      FROM conversation WHERE turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
    RETURNING turns.id, turns.user_id, turns.quota_tokens),
new_messages AS (
    INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id, metadata,
                          turn_id, created_at)
    SELECT conversation.user_id, conversation.id, conversation.position + item.ordinal, item.role, item.content,
           item.tool_calls, item.tool_call_id, coalesce(item.metadata, '{}'), %(turn_id)s, now()
      FROM conversation CROSS JOIN json_to_recordset(%(messages)s::json) AS item(
           ordinal integer, role text, content text, tool_calls jsonb, tool_call_id text, metadata jsonb)),
quota AS (
    UPDATE users
       SET tokens_used = CASE WHEN users.tokens_day >= (now() AT TIME ZONE 'UTC')::date THEN users.tokens_used ELSE 0 END
                         + turn.quota_tokens,
           tokens_day = greatest(users.tokens_day, (now() AT TIME ZONE 'UTC')::date)
      FROM turn
     WHERE users.id = turn.user_id AND users.tokens_per_day IS NOT NULL AND turn.quota_tokens IS NOT NULL)
SELECT id FROM turn
