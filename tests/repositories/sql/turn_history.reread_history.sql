WITH /* turns.reread_history */ conversation AS (
    SELECT %(user_id)s AS user_id, %(conversation_id)s AS id, %(position)s AS position),
recent AS (
    SELECT recent.* FROM conversation CROSS JOIN LATERAL (
        SELECT position, role, content, tool_calls, tool_call_id, metadata -> 'files' AS files FROM messages
         WHERE user_id = conversation.user_id AND conversation_id = conversation.id
           AND position < conversation.position
         ORDER BY position DESC LIMIT %(history)s) AS recent)
SELECT (SELECT max(position) FROM recent) AS newest,
       (SELECT json_agg(json_build_object('role', role, 'content', content, 'tool_calls', tool_calls,
                                          'tool_call_id', tool_call_id, 'files', files) ORDER BY position)
          FROM (SELECT *, sum(coalesce(length(content), 0) + coalesce(length(tool_calls::text), 0))
                              OVER (ORDER BY position DESC) AS chars
                  FROM recent) AS sized
         WHERE chars <= %(history_chars)s) AS history
