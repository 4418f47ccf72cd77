"""SQL conditions on the caller of a turn: a live session, or an API key that may chat."""

from app.repositories.statement import Statement

# %(user_id)s, %(session_id)s
_LIVE_SESSION = """
           SELECT FROM sessions JOIN users ON users.id = sessions.user_id
            WHERE sessions.user_id = %(user_id)s AND sessions.id = %(session_id)s
              AND sessions.revoked_at IS NULL AND sessions.expires_at > now() AND users.status = 'active'"""

# %(user_id)s, %(key_id)s, %(key_hash)s
_LIVE_KEY = """
           SELECT FROM api_keys JOIN users ON users.id = api_keys.user_id
            WHERE api_keys.user_id = %(user_id)s AND api_keys.id = %(key_id)s AND api_keys.key_hash = %(key_hash)s
              AND api_keys.revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())
              AND 'chat' = ANY (api_keys.scopes) AND users.status = 'active'"""


def live_caller(*, by_key: bool, without_quota: bool = False) -> str:
    """Return the condition that the caller's session, or API key, is live and its user active.

    `without_quota` also requires that the user has no token quota.
    """
    credential = _LIVE_KEY if by_key else _LIVE_SESSION
    quota = "\n              AND users.tokens_per_day IS NULL" if without_quota else ""
    return f"EXISTS ({credential}{quota})"


def _live(user_id: str, credential_id: str) -> str:
    """Return the condition that a session or API key with this id is live; an id is only ever one of the two."""
    return f"""EXISTS (
       SELECT FROM users LEFT JOIN sessions ON sessions.user_id = users.id AND sessions.id = {credential_id}
                         LEFT JOIN api_keys ON api_keys.user_id = users.id AND api_keys.id = {credential_id}
        WHERE users.id = {user_id} AND users.status = 'active'
          AND (sessions.revoked_at IS NULL AND sessions.expires_at > now()
               OR api_keys.revoked_at IS NULL AND 'chat' = ANY (api_keys.scopes)
                  AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())))"""


# Those of the given sessions and API keys that are live; the arrays have one length.
LIVE = Statement(
    "turn_callers.live",
    f"""
SELECT caller.user_id, caller.credential_id
  FROM unnest(%(user_ids)s::uuid[], %(credential_ids)s::uuid[]) AS caller(user_id, credential_id)
 WHERE {_live("caller.user_id", "caller.credential_id")}""",
)

# Whether the session or API key of a ticket is live, and whether its turn runs or ended less than %(seconds)s ago; null
# if there is no such turn. Always one row.
TICKET = Statement(
    "turn_callers.ticket",
    f"""
SELECT {_live("%(user_id)s", "%(credential_id)s")} AS caller_live,
       turns.status = 'running' OR turns.finished_at > now() - make_interval(secs => %(seconds)s) AS turn_open
  FROM (SELECT 1) AS single_row LEFT JOIN turns ON turns.user_id = %(user_id)s AND turns.id = %(turn_id)s""",
)
