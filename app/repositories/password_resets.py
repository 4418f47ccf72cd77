"""SQL of tokens that reset a password."""

from app.repositories.statement import Statement

# No row: the user does not exist or is disabled.
ADD = Statement(
    "password_resets.add",
    """
INSERT INTO password_resets (user_id, id, token_hash, expires_at)
SELECT users.id, %(reset_id)s, %(token_hash)s, now() + make_interval(secs => %(seconds)s)
  FROM users WHERE users.id = %(user_id)s AND users.status = 'active'
RETURNING expires_at""",
)

_VALID = """user_id = %(user_id)s AND id = %(reset_id)s AND token_hash = %(token_hash)s AND expires_at > now()"""

FIND = Statement("password_resets.find", f"SELECT id FROM password_resets WHERE {_VALID}")

# A concurrent use of the same token waits for the row, and then finds none.
USE = Statement("password_resets.use", f"DELETE FROM password_resets WHERE {_VALID} RETURNING id")

DELETE_ALL = Statement(
    "password_resets.delete_all", "DELETE FROM password_resets WHERE user_id = %(user_id)s RETURNING id"
)
