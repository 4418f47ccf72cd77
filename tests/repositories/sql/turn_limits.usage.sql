SELECT /* turns.usage */ users.tokens_per_day,
       CASE WHEN users.tokens_day >= (now() AT TIME ZONE 'UTC')::date THEN users.tokens_used ELSE 0 END AS used,
       (SELECT coalesce(sum(quota_tokens), 0) FROM turns WHERE user_id = %(user_id)s AND status = 'running')
           AS reserved,
       estimate.tokens AS wanted,
       coalesce((SELECT sum(stored_bytes.bytes) FROM stored_bytes WHERE stored_bytes.user_id = users.id), 0)::bigint AS stored_bytes, coalesce(users.max_bytes, %(max_bytes)s) AS max_bytes,
       (SELECT count(*) FROM turns
         WHERE user_id = %(user_id)s AND status = 'running' AND slot <= %(max_running)s) AS running,
       ceil(extract(epoch FROM ((now() AT TIME ZONE 'UTC')::date + 1) - (now() AT TIME ZONE 'UTC')))::integer
           AS until_midnight
  FROM users, (
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
        2147483647)::integer AS tokens) AS estimate
 WHERE users.id = %(user_id)s
