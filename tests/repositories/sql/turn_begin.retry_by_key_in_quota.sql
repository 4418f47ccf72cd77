SELECT /* turns.begin_retry_in_quota */ id FROM users
 WHERE id = %(user_id)s AND tokens_per_day IS NOT NULL FOR NO KEY UPDATE;
WITH /* turns.begin_retry_in_quota */ estimate AS (
    SELECT least((octet_length(%(content)s) + (
        SELECT coalesce(sum(octet_length(content)), 0) FROM (
            SELECT content, sum(length(content)) OVER (ORDER BY position DESC) AS chars FROM (
                SELECT position, coalesce(content, '') AS content FROM messages
                 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
                 ORDER BY position DESC LIMIT least(%(history)s, CASE WHEN %(project_history)s THEN (
                       SELECT (settings->>'history')::integer FROM projects
                        WHERE user_id = %(user_id)s AND id = coalesce(%(project_id)s::uuid, (
               SELECT project_id FROM conversations WHERE user_id = %(user_id)s AND id = %(conversation_id)s))) END)) AS recent) AS sized
         WHERE chars <= %(history_chars)s) + (
        SELECT coalesce(sum(octet_length(content)), 0) FROM prompts
         WHERE user_id = %(user_id)s AND enabled AND project_id = coalesce(%(project_id)s::uuid, (
               SELECT project_id FROM conversations WHERE user_id = %(user_id)s AND id = %(conversation_id)s))) + (
        SELECT least(coalesce(sum(characters), 0), %(files_chars)s) FROM file_texts
         WHERE user_id = %(user_id)s AND file_id IN (
               SELECT id FROM files WHERE user_id = %(user_id)s AND id = ANY (%(file_ids)s::uuid[])
               UNION ALL
               SELECT id FROM files WHERE user_id = %(user_id)s AND project_id = coalesce(%(project_id)s::uuid, (
               SELECT project_id FROM conversations WHERE user_id = %(user_id)s AND id = %(conversation_id)s))))
        ) / 4 + 1 + %(output_tokens)s,
        2147483647)::integer AS tokens),
remaining AS (
    SELECT tokens_per_day
           - CASE WHEN users.tokens_day >= (now() AT TIME ZONE 'UTC')::date THEN users.tokens_used ELSE 0 END
           - (SELECT coalesce(sum(quota_tokens), 0) FROM turns WHERE user_id = %(user_id)s AND status = 'running')
           AS tokens
      FROM users WHERE id = %(user_id)s),
free_slot AS (
    SELECT candidate::smallint AS slot FROM generate_series(1, %(max_running)s) AS candidate
     WHERE candidate NOT IN (SELECT slot FROM turns
                              WHERE user_id = %(user_id)s AND status = 'running' AND slot IS NOT NULL)
     ORDER BY (candidate + %(slot_seed)s) %% %(max_running)s LIMIT 1),
conversation AS (
    UPDATE conversations SET running_attempt = %(attempt)s, status = 'active', updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt IS NULL AND storage = 'live'
       AND next_position = %(next_position)s
       AND EXISTS (
           SELECT FROM api_keys JOIN users ON users.id = api_keys.user_id
            WHERE api_keys.user_id = %(user_id)s AND api_keys.id = %(key_id)s AND api_keys.key_hash = %(key_hash)s
              AND api_keys.revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())
              AND 'chat' = ANY (api_keys.scopes) AND users.status = 'active')
       AND (
           SELECT coalesce(users.max_bytes, %(max_bytes)s) = 0 OR coalesce((SELECT sum(stored_bytes.bytes) FROM stored_bytes WHERE stored_bytes.user_id = users.id), 0)::bigint < coalesce(users.max_bytes, %(max_bytes)s)
             FROM users WHERE users.id = %(user_id)s)
       AND (SELECT estimate.tokens <= remaining.tokens FROM estimate, remaining)
       AND (%(max_running)s = 0 OR EXISTS (SELECT FROM free_slot))
    RETURNING user_id, id, project_id, title, %(position)s AS position),
project AS (
    SELECT projects.* FROM projects, conversation
     WHERE projects.user_id = conversation.user_id AND projects.id = conversation.project_id),
turn AS (
    UPDATE turns
       SET attempt = %(attempt)s, status = 'running', heartbeat_at = now(),
           provider = coalesce(%(provider)s, project.provider, %(default_provider)s),
           model = coalesce(%(model)s, CASE WHEN %(provider)s::text IS NULL THEN project.model END),
           started_at = now(), finished_at = NULL, first_token_at = NULL, cancel_requested_at = NULL, error = NULL,
           finish_reason = NULL, input_tokens = NULL, output_tokens = NULL, answer_position = NULL,
           events_wanted = false, slot = (SELECT slot FROM free_slot),
           (quota_tokens, quota_estimated) = ROW((SELECT tokens FROM estimate), true)
      FROM conversation LEFT JOIN project ON true
     WHERE turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
    RETURNING turns.provider, turns.model, turns.started_at, turns.last_sequence, turns.quota_tokens),
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
       (SELECT messages.metadata -> 'files' FROM messages
         WHERE messages.user_id = conversation.user_id AND messages.conversation_id = conversation.id
           AND messages.position = conversation.position) AS files,
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
