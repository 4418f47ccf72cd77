"""SQL of sessions. Each statement is atomic, so callers without a transaction run it in AUTOCOMMIT."""

from app.repositories.statement import Statement

# A login takes as long as bcrypt, and the password may change in that time, which revokes all sessions. The share lock
# waits for such a change and then sees it. No row: the verified password is no longer valid.
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

# The presented token is a successor of the previous token, and the first one of its successors that is presented.
_UNUSED = "(refresh_hash = %(presented)s OR first_successor_hash = %(presented)s)"
# The presented token is the previous one, its grace time is over and its only successor was never presented: the
# response with the successor was lost.
_LOST = "(previous_refresh_hash = %(presented)s AND first_successor_hash IS NULL AND rotated_at <= %(grace_from)s)"

# Decided under the row lock: PostgreSQL evaluates the new values on the locked row. An unused token rotates. So does
# the previous one after a lost response, and its first successor stays valid beside the new one. Otherwise the previous
# token changes nothing: no successor was presented, and the current token is returned. Any other token was used before:
# the session is revoked. No row: no such valid session.
REFRESH = Statement(
    "sessions.refresh",
    f"""
UPDATE sessions
   SET refresh_hash = CASE WHEN {_UNUSED} OR {_LOST} THEN %(replacement)s ELSE refresh_hash END,
       previous_refresh_hash = CASE WHEN {_UNUSED} THEN %(presented)s ELSE previous_refresh_hash END,
       first_successor_hash = CASE WHEN {_UNUSED} THEN NULL WHEN {_LOST} THEN refresh_hash
                                   ELSE first_successor_hash END,
       rotated_at = CASE WHEN {_UNUSED} OR {_LOST} THEN %(now)s ELSE rotated_at END,
       expires_at = CASE WHEN {_UNUSED} OR {_LOST} THEN %(expires_at)s ELSE expires_at END,
       revoked_at = CASE WHEN {_UNUSED} OR previous_refresh_hash = %(presented)s THEN NULL ELSE now() END
 WHERE user_id = %(user_id)s AND id = %(session_id)s AND revoked_at IS NULL AND expires_at > now()
   AND EXISTS (SELECT FROM users WHERE users.id = sessions.user_id AND users.status = 'active')
RETURNING refresh_hash, rotated_at, expires_at, revoked_at""",
)

# The live sessions of a user, the newest login first: ids are ordered by time. A login has two times, of this machine
# and of the database.
PAGE = Statement(
    "sessions.page",
    """
SELECT id, created_at, greatest(created_at, rotated_at) AS refreshed_at, expires_at, user_agent, address FROM sessions
 WHERE user_id = %(user_id)s AND revoked_at IS NULL AND expires_at > now()
   AND (%(after)s::uuid IS NULL OR id < %(after)s)
 ORDER BY id DESC LIMIT %(limit)s""",
)

EXISTS = Statement("sessions.exists", "SELECT id FROM sessions WHERE user_id = %(user_id)s AND id = %(session_id)s")

REVOKE = Statement(
    "sessions.revoke",
    """
UPDATE sessions SET revoked_at = now()
 WHERE user_id = %(user_id)s AND id = %(session_id)s AND revoked_at IS NULL
RETURNING id""",
)

REVOKE_OTHERS = Statement(
    "sessions.revoke_others",
    """
UPDATE sessions SET revoked_at = now()
 WHERE user_id = %(user_id)s AND id <> %(session_id)s AND revoked_at IS NULL
RETURNING id""",
)

REVOKE_ALL = Statement(
    "sessions.revoke_all",
    """
UPDATE sessions SET revoked_at = now() WHERE user_id = %(user_id)s AND revoked_at IS NULL
RETURNING id""",
)
