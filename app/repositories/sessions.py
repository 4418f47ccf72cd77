"""The SQL of sessions. Each statement is whole in itself: outside a transaction, callers run it in AUTOCOMMIT."""

from app.repositories.statement import Statement

# A login takes as long as bcrypt does, and meanwhile the password may change, which ends all sessions. The share lock
# waits for such a change and then sees it; no row means that what was verified is no longer so.
OPEN = Statement(
    "sessions.open",
    """
INSERT INTO sessions (user_id, id, refresh_hash, rotated_at, expires_at, user_agent, address)
SELECT id, %(session_id)s, %(refresh_hash)s, %(now)s, %(expires_at)s, %(user_agent)s, %(address)s
  FROM users WHERE id = %(user_id)s AND password_hash = %(seen_hash)s AND status = 'active' FOR SHARE
RETURNING id""",
)

IDENTIFY = Statement(
    "sessions.identify",
    """
SELECT users.role FROM sessions JOIN users ON users.id = sessions.user_id
 WHERE sessions.user_id = %(user_id)s AND sessions.id = %(session_id)s
   AND sessions.revoked_at IS NULL AND sessions.expires_at > now() AND users.status = 'active'""",
)

# All that a refresh token can mean, decided under the row's lock: PostgreSQL computes the new values again on the row
# as it is after the wait. The current token rotates. The one before changes nothing and is forgotten, so that it is
# honoured once. Any other was used before: the session ends. No row: there is no such live session.
REFRESH = Statement(
    "sessions.refresh",
    """
UPDATE sessions
   SET refresh_hash = CASE WHEN refresh_hash = %(presented)s THEN %(replacement)s ELSE refresh_hash END,
       previous_refresh_hash = CASE WHEN refresh_hash = %(presented)s THEN refresh_hash END,
       rotated_at = CASE WHEN refresh_hash = %(presented)s THEN %(now)s ELSE rotated_at END,
       expires_at = CASE WHEN refresh_hash = %(presented)s THEN %(expires_at)s ELSE expires_at END,
       revoked_at = CASE WHEN refresh_hash = %(presented)s
                           OR (previous_refresh_hash = %(presented)s AND rotated_at > %(grace_from)s)
                         THEN NULL ELSE now() END
 WHERE user_id = %(user_id)s AND id = %(session_id)s AND revoked_at IS NULL AND expires_at > now()
   AND EXISTS (SELECT FROM users WHERE users.id = sessions.user_id AND users.status = 'active')
RETURNING refresh_hash, rotated_at, expires_at, revoked_at""",
)

REVOKE = Statement(
    "sessions.revoke",
    """
UPDATE sessions SET revoked_at = now()
 WHERE user_id = %(user_id)s AND id = %(session_id)s AND revoked_at IS NULL
RETURNING id""",
)

REVOKE_ALL = Statement(
    "sessions.revoke_all",
    """
UPDATE sessions SET revoked_at = now() WHERE user_id = %(user_id)s AND revoked_at IS NULL
RETURNING id""",
)
