SELECT /* turn_callers.live */ caller.user_id, caller.credential_id
  FROM unnest(%(user_ids)s::uuid[], %(credential_ids)s::uuid[]) AS caller(user_id, credential_id)
 WHERE EXISTS (
       SELECT FROM users LEFT JOIN sessions ON sessions.user_id = users.id AND sessions.id = caller.credential_id
                         LEFT JOIN api_keys ON api_keys.user_id = users.id AND api_keys.id = caller.credential_id
        WHERE users.id = caller.user_id AND users.status = 'active'
          AND (sessions.revoked_at IS NULL AND sessions.expires_at > now()
               OR api_keys.revoked_at IS NULL AND 'chat' = ANY (api_keys.scopes)
                  AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())))
