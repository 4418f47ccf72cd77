"""The SQL by which operators look after accounts. Unlike everybody else's, it is not bound to one owner.

What there is of somebody's data is told, and never what it says; `erasures` and exports read whole tables by owner.
"""

from app.models.turn import TurnStatus
from app.repositories.statement import Statement

_COLUMNS = "users.id, users.email, users.name, users.role, users.status, users.created_at, users.updated_at"

FIND = Statement(
    "accounts.find",
    f"""
SELECT {_COLUMNS},
       (SELECT count(*) FROM sessions WHERE user_id = users.id AND revoked_at IS NULL AND expires_at > now())
           AS sessions,
       (SELECT count(*) FROM api_keys WHERE user_id = users.id AND revoked_at IS NULL
           AND (expires_at IS NULL OR expires_at > now())) AS api_keys,
       (SELECT count(*) FROM conversations WHERE user_id = users.id) AS conversations,
       (SELECT coalesce(sum(message_count), 0) FROM conversations WHERE user_id = users.id) AS messages,
       (SELECT count(*) FROM conversations WHERE user_id = users.id AND legal_hold) AS held,
       (SELECT max(updated_at) FROM conversations WHERE user_id = users.id) AS last_active_at
  FROM users WHERE users.id = %(user_id)s""",
)

ID_OF = Statement("accounts.id_of", "SELECT id FROM users WHERE lower(email) = lower(%(email)s)")

KNOWN = Statement("accounts.known", "SELECT id FROM users WHERE id = %(user_id)s")

# Ids are ordered by time: the newest first.
PAGE = Statement(
    "accounts.page",
    f"""
SELECT {_COLUMNS} FROM users
 WHERE (%(email)s::text IS NULL OR lower(email) = lower(%(email)s))
   AND (%(role)s::text IS NULL OR role = %(role)s) AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(after)s::uuid IS NULL OR id < %(after)s)
 ORDER BY id DESC LIMIT %(limit)s""",
)

INSERT = Statement(
    "accounts.insert",
    f"""
INSERT INTO users (id, email, name, password_hash, role)
VALUES (%(user_id)s, %(email)s, %(name)s, %(password_hash)s, %(role)s)
RETURNING {_COLUMNS}""",
)

SET_STATUS = Statement(
    "accounts.set_status",
    f"""
UPDATE users SET status = %(status)s, updated_at = greatest(updated_at, now()) WHERE id = %(user_id)s
RETURNING {_COLUMNS}""",
)

SET_ROLE = Statement(
    "accounts.set_role",
    f"""
UPDATE users SET role = %(role)s, updated_at = greatest(updated_at, now()) WHERE id = %(user_id)s
RETURNING {_COLUMNS}""",
)

# Each worker's next heartbeat hears it, and stops the provider.
CANCEL_TURNS = Statement(
    "accounts.cancel_turns",
    f"""
UPDATE turns SET cancel_requested_at = now()
 WHERE user_id = %(user_id)s AND status = '{TurnStatus.RUNNING}' AND cancel_requested_at IS NULL
RETURNING id""",
)

HELD = Statement(
    "accounts.held",
    "SELECT id FROM conversations WHERE user_id = %(user_id)s AND legal_hold ORDER BY id LIMIT %(limit)s",
)

CONVERSATIONS = Statement(
    "accounts.conversations",
    """
SELECT id FROM conversations WHERE user_id = %(user_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
 ORDER BY id LIMIT %(limit)s""",
)

ERASE_ACCOUNT = Statement("accounts.erase", "DELETE FROM users WHERE id = %(user_id)s RETURNING id")

RECEIPT = Statement(
    "erasures.add",
    """
INSERT INTO erasures (id, account_id, requested_by, reason, rows, backups)
VALUES (%(id)s, %(account_id)s, %(requested_by)s, %(reason)s, %(rows)s::jsonb, %(backups)s::jsonb)
RETURNING id, erased_at""",
)

ERASED = Statement(
    "erasures.page",
    """
SELECT id, account_id, requested_by, reason, rows, backups, erased_at FROM erasures
 WHERE (%(after)s::uuid IS NULL OR id < %(after)s) ORDER BY id DESC LIMIT %(limit)s""",
)

RUNNING = Statement(
    "accounts.running", f"SELECT id FROM turns WHERE user_id = %(user_id)s AND status = '{TurnStatus.RUNNING}'"
)

_KEY = "id, name, prefix, scopes, created_at, last_used_at, expires_at, revoked_at"

KEYS = Statement(
    "accounts.keys", f"SELECT {_KEY} FROM api_keys WHERE user_id = %(user_id)s ORDER BY id DESC LIMIT 1000"
)

REVOKE_KEY = Statement(
    "accounts.revoke_key",
    f"""
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE user_id = %(user_id)s AND id = %(key_id)s
RETURNING {_KEY}""",
)
