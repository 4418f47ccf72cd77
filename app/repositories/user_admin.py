"""SQL of the operators' user administration, which is not restricted to one owner.

It returns counts of a user's data, not their content. `owned` reads complete tables by owner, for exports.
"""

from app.enums import TurnStatus
from app.repositories.statement import Statement
from app.repositories.users import ADDRESSED, BY_SPELLING

_COLUMNS = "users.id, users.email, users.name, users.role, users.status, users.created_at, users.updated_at"

FIND = Statement(
    "user_admin.find",
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

ID_OF = Statement("user_admin.id_of", f"SELECT id FROM users WHERE {ADDRESSED} ORDER BY {BY_SPELLING} LIMIT 1")

KNOWN = Statement("user_admin.known", "SELECT id FROM users WHERE id = %(user_id)s")

ROLE = Statement("user_admin.role", "SELECT role FROM users WHERE id = %(user_id)s")

# Ids are ordered by time: the newest first.
PAGE = Statement(
    "user_admin.page",
    f"""
SELECT {_COLUMNS} FROM users
 WHERE (%(email)s::text IS NULL OR {ADDRESSED})
   AND (%(role)s::text IS NULL OR role = %(role)s) AND (%(status)s::text IS NULL OR status = %(status)s)
   AND (%(after)s::uuid IS NULL OR id < %(after)s)
 ORDER BY id DESC LIMIT %(limit)s""",
)

INSERT = Statement(
    "user_admin.insert",
    f"""
INSERT INTO users (id, email, email_key, name, password_hash, role)
VALUES (%(user_id)s, %(email)s, %(email_key)s, %(name)s, %(password_hash)s, %(role)s)
RETURNING {_COLUMNS}""",
)

SET_STATUS = Statement(
    "user_admin.set_status",
    f"""
UPDATE users SET status = %(status)s, updated_at = greatest(updated_at, now()) WHERE id = %(user_id)s
RETURNING {_COLUMNS}""",
)

SET_ROLE = Statement(
    "user_admin.set_role",
    f"""
UPDATE users SET role = %(role)s, updated_at = greatest(updated_at, now()) WHERE id = %(user_id)s
RETURNING {_COLUMNS}""",
)

# The next heartbeat of each worker reads it and cancels the provider's answer.
CANCEL_TURNS = Statement(
    "user_admin.cancel_turns",
    f"""
UPDATE turns SET cancel_requested_at = now()
 WHERE user_id = %(user_id)s AND status = '{TurnStatus.RUNNING}' AND cancel_requested_at IS NULL
RETURNING id""",
)

HELD = Statement(
    "user_admin.held",
    "SELECT id FROM conversations WHERE user_id = %(user_id)s AND legal_hold ORDER BY id LIMIT %(limit)s",
)

CONVERSATIONS = Statement(
    "user_admin.conversations",
    """
SELECT id FROM conversations WHERE user_id = %(user_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
 ORDER BY id LIMIT %(limit)s""",
)

ERASE_USER = Statement("users.erase", "DELETE FROM users WHERE id = %(user_id)s RETURNING id")

RECEIPT = Statement(
    "erasures.add",
    """
INSERT INTO erasures (id, account_id, requested_by, reason, rows, backups)
VALUES (%(id)s, %(user_id)s, %(requested_by)s, %(reason)s, %(rows)s::jsonb, %(backups)s::jsonb)
RETURNING id, erased_at""",
)

ERASED = Statement(
    "erasures.page",
    """
SELECT id, account_id AS user_id, requested_by, reason, rows, backups, erased_at, objects_deleted_at,
       provider_copies_deleted_at
  FROM erasures
 WHERE (%(after)s::uuid IS NULL OR id < %(after)s) ORDER BY id DESC LIMIT %(limit)s""",
)

RUNNING = Statement(
    "user_admin.running", f"SELECT id FROM turns WHERE user_id = %(user_id)s AND status = '{TurnStatus.RUNNING}'"
)

_KEY = "id, name, prefix, scopes, created_at, last_used_at, expires_at, revoked_at"

KEYS = Statement(
    "user_admin.keys", f"SELECT {_KEY} FROM api_keys WHERE user_id = %(user_id)s ORDER BY id DESC LIMIT 1000"
)

REVOKE_KEY = Statement(
    "user_admin.revoke_key",
    f"""
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE user_id = %(user_id)s AND id = %(key_id)s
RETURNING {_KEY}""",
)
