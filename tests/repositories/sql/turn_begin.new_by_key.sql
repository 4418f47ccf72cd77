WITH /* turns.begin_new */ free_slot AS (
    SELECT candidate::smallint AS slot FROM generate_series(1, %(max_running)s) AS candidate
     WHERE candidate NOT IN (SELECT slot FROM turns
                              WHERE user_id = %(user_id)s AND status = 'running' AND slot IS NOT NULL)
     ORDER BY (candidate + %(slot_seed)s) %% %(max_running)s LIMIT 1),
conversation AS (
    INSERT INTO conversations (user_id, id, project_id, title, preview, next_position, message_count, running_attempt)
    SELECT %(user_id)s, %(conversation_id)s, %(project_id)s::uuid, %(title)s, %(preview)s, 2, 1, %(attempt)s
     WHERE NOT EXISTS (
           SELECT FROM turns WHERE user_id = %(user_id)s AND idempotency_key = %(idempotency_key)s
           UNION ALL
           SELECT FROM idempotency_keys WHERE user_id = %(user_id)s AND key = %(idempotency_key)s)
       AND EXISTS (
           SELECT FROM api_keys JOIN users ON users.id = api_keys.user_id
            WHERE api_keys.user_id = %(user_id)s AND api_keys.id = %(key_id)s AND api_keys.key_hash = %(key_hash)s
              AND api_keys.revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())
              AND 'chat' = ANY (api_keys.scopes) AND users.status = 'active'
              AND users.tokens_per_day IS NULL)
       AND (
           SELECT coalesce(users.max_bytes, %(max_bytes)s) = 0 OR coalesce((SELECT sum(stored_bytes.bytes) FROM stored_bytes WHERE stored_bytes.user_id = users.id), 0)::bigint < coalesce(users.max_bytes, %(max_bytes)s)
             FROM users WHERE users.id = %(user_id)s)
       AND (%(max_running)s = 0 OR EXISTS (SELECT FROM free_slot))
    RETURNING user_id, id, project_id, title, 1 AS position),
project AS (
    SELECT projects.* FROM projects, conversation
     WHERE projects.user_id = conversation.user_id AND projects.id = conversation.project_id),
turn AS (
    INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, idempotency_key, request_hash,
                       provider, model, heartbeat_at, started_at, slot, quota_tokens, quota_estimated)
    SELECT conversation.user_id, %(turn_id)s, conversation.id, %(attempt)s, 'running', conversation.position,
           %(idempotency_key)s, %(request_hash)s::bytea, coalesce(%(provider)s, project.provider, %(default_provider)s),
           coalesce(%(model)s, CASE WHEN %(provider)s::text IS NULL THEN project.model END), now(), now(),
           (SELECT slot FROM free_slot), NULL::integer, NULL::boolean
      FROM conversation LEFT JOIN project ON true
    RETURNING provider, model, started_at, 0 AS last_sequence, quota_tokens),
user_message AS (
    INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id, metadata,
                          turn_id, created_at)
    SELECT user_id, id, position, 'user', %(content)s,
           NULL::jsonb, NULL, %(message_metadata)s::jsonb, %(turn_id)s, now()
      FROM conversation),
recent AS (
    SELECT recent.* FROM conversation CROSS JOIN LATERAL (
        SELECT position, role, content, tool_calls, tool_call_id, metadata -> 'files' AS files FROM messages
         WHERE user_id = conversation.user_id AND conversation_id = conversation.id
           AND position < conversation.position
         ORDER BY position DESC LIMIT least(
                 %(history)s, CASE WHEN %(project_history)s THEN (SELECT (settings->>'history')::integer FROM project) END)) AS recent)
SELECT conversation.position, conversation.title, conversation.project_id,
       turn.provider, turn.model, turn.started_at, turn.last_sequence, turn.quota_tokens,
       (SELECT settings FROM project) AS project_settings,
       (SELECT json_agg(json_build_object(
                   'id', prompts.id, 'version', prompts.version, 'content', prompts.content,
                   'names', CASE WHEN prompts.variables THEN json_build_object(
                       'user.name', (SELECT users.name FROM users WHERE users.id = prompts.user_id),
                       'project.name', (SELECT project.name FROM project)) END) ORDER BY prompts.position, prompts.id) FROM prompts
         WHERE prompts.user_id = conversation.user_id AND prompts.project_id = conversation.project_id
           AND prompts.enabled) AS prompts,
       (SELECT scopes FROM api_keys WHERE user_id = %(user_id)s AND id = %(key_id)s) AS key_scopes,
       %(message_metadata)s::jsonb -> 'files' AS files,
       EXISTS (SELECT FROM files WHERE files.user_id = conversation.user_id
                  AND files.project_id = conversation.project_id) AS has_files,
       (SELECT max(position) FROM recent) AS newest,
       (SELECT json_agg(json_build_object('role', role, 'content', content, 'tool_calls', tool_calls,
                                          'tool_call_id', tool_call_id, 'files', files) ORDER BY position)
          FROM (SELECT *, sum(coalesce(length(content), 0) + coalesce(length(tool_calls::text), 0))
                              OVER (ORDER BY position DESC) AS chars
                  FROM recent) AS sized
         WHERE chars <= %(history_chars)s) AS history
  FROM conversation, turn
