SELECT /* turn_callers.ticket */ EXISTS (
       SELECT FROM users LEFT JOIN sessions ON sessions.user_id = users.id AND sessions.id = %(credential_id)s
                         LEFT JOIN api_keys ON api_keys.user_id = users.id AND api_keys.id = %(credential_id)s
        WHERE users.id = %(user_id)s AND users.status = 'active'
          AND (sessions.revoked_at IS NULL AND sessions.expires_at > now()
               OR api_keys.revoked_at IS NULL AND 'chat' = ANY (api_keys.scopes)
                  AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now()))) AS caller_live,
       turns.status = 'running' OR turns.finished_at > now() - make_interval(secs => %(seconds)s) AS turn_open
  FROM (SELECT 1) AS single_row LEFT JOIN turns ON turns.user_id = %(user_id)s AND turns.id = %(turn_id)s
