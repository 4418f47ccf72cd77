"""The SQL of accounts. Emails are compared without regard to case, as their unique index does."""

from app.repositories.statement import Statement

EMAIL_INDEX = "uq_users_email"  # what a second account with the same address violates

_COLUMNS = "id, email, name, password_hash, role, status, created_at, updated_at"

INSERT = Statement(
    "users.insert",
    f"""
INSERT INTO users (id, email, name, password_hash)
VALUES (%(user_id)s, %(email)s, %(name)s, %(password_hash)s)
RETURNING {_COLUMNS}""",
)

BY_EMAIL = Statement("users.by_email", f"SELECT {_COLUMNS} FROM users WHERE lower(email) = lower(%(email)s)")

# From where the account was logged into before, the latest first; sessions that have ended are kept for a while.
ADDRESSES = Statement(
    "users.addresses",
    """
SELECT sessions.address FROM sessions JOIN users ON users.id = sessions.user_id
 WHERE lower(users.email) = lower(%(email)s) AND sessions.address IS NOT NULL
 ORDER BY sessions.id DESC LIMIT 1000""",
)

GET = Statement("users.get", f"SELECT {_COLUMNS} FROM users WHERE id = %(user_id)s")

RENAME = Statement(
    "users.rename",
    f"""
UPDATE users SET name = %(name)s, updated_at = greatest(updated_at, now())
 WHERE id = %(user_id)s
RETURNING {_COLUMNS}""",
)

# No row: the password was changed by somebody else since `%(seen_hash)s` was read.
SET_PASSWORD = Statement(
    "users.set_password",
    """
UPDATE users SET password_hash = %(password_hash)s, updated_at = greatest(updated_at, now())
 WHERE id = %(user_id)s AND password_hash = %(seen_hash)s
RETURNING id""",
)
