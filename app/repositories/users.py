"""SQL of users' own accounts. Email addresses are looked up by their normal form, as by their unique index."""

from app.repositories.statement import Statement

EMAIL_INDEXES = {"uq_users_email", "uq_users_email_key"}  # violated by a second user with the same address

# The user of a typed address: the account of its normal form, `%(email_key)s`; or the account that is
# spelled so, if its normal form belonged to another account first; or a row of a release before normal forms. Each
# account has one normal form, so limits that count normal forms count exactly what is looked up.
ADDRESSED = """(email_key IN (%(email_key)s, %(email)s) OR (email_key IS NULL AND lower(email) = %(email_key)s))"""
BY_SPELLING = "email = %(email)s DESC, email_key NULLS LAST"  # the account that is spelled so comes first

_COLUMNS = "id, email, name, password_hash, role, status, created_at, updated_at"

INSERT = Statement(
    "users.insert",
    f"""
INSERT INTO users (id, email, email_key, name, password_hash)
VALUES (%(user_id)s, %(email)s, %(email_key)s, %(name)s, %(password_hash)s)
RETURNING {_COLUMNS}""",
)

BY_EMAIL = Statement("users.by_email", f"SELECT {_COLUMNS} FROM users WHERE {ADDRESSED} ORDER BY {BY_SPELLING} LIMIT 1")

# Addresses of earlier logins, the latest first. Ended sessions are kept for a while.
ADDRESSES = Statement(
    "users.addresses",
    f"""
SELECT address FROM sessions
 WHERE user_id = (SELECT id FROM users WHERE {ADDRESSED} ORDER BY {BY_SPELLING} LIMIT 1) AND address IS NOT NULL
 ORDER BY id DESC LIMIT 1000""",
)

GET = Statement("users.get", f"SELECT {_COLUMNS} FROM users WHERE id = %(user_id)s")

RENAME = Statement(
    "users.rename",
    f"""
UPDATE users SET name = %(name)s, updated_at = greatest(updated_at, now())
 WHERE id = %(user_id)s
RETURNING {_COLUMNS}""",
)

# No row: the password was changed after `%(seen_hash)s` was read, or the user was disabled.
SET_EMAIL = Statement(
    "users.set_email",
    f"""
UPDATE users SET email = %(email)s, email_key = %(email_key)s, updated_at = greatest(updated_at, now())
 WHERE id = %(user_id)s AND password_hash = %(seen_hash)s AND status = 'active'
RETURNING {_COLUMNS}""",
)

# No row: likewise.
DISABLE = Statement(
    "users.disable",
    """
UPDATE users SET status = 'disabled', updated_at = greatest(updated_at, now())
 WHERE id = %(user_id)s AND password_hash = %(seen_hash)s AND status = 'active'
RETURNING id""",
)

LOCK_ACTIVE = Statement(
    "users.lock_active",
    f"SELECT {_COLUMNS} FROM users WHERE id = %(user_id)s AND status = 'active' FOR NO KEY UPDATE",
)

REPLACE_PASSWORD = Statement(
    "users.replace_password",
    """
UPDATE users SET password_hash = %(password_hash)s, updated_at = greatest(updated_at, now()) WHERE id = %(user_id)s
RETURNING id""",
)

# No row: the password was changed after `%(seen_hash)s` was read.
SET_PASSWORD = Statement(
    "users.set_password",
    """
UPDATE users SET password_hash = %(password_hash)s, updated_at = greatest(updated_at, now())
 WHERE id = %(user_id)s AND password_hash = %(seen_hash)s
RETURNING id""",
)
