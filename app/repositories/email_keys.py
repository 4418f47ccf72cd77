"""SQL of the normal forms of email addresses, over all users."""

from app.repositories.statement import Statement

PAGE = Statement(
    "email_keys.page",
    """
SELECT id, email, email_key FROM users
 WHERE %(after)s::uuid IS NULL OR id > %(after)s ORDER BY id LIMIT %(limit)s""",
)

OWNED = Statement("email_keys.owned", "SELECT email_key FROM users WHERE email_key = ANY (%(keys)s)")

# The account that is spelled like the normal form has the first claim to it.
RELEASE = Statement(
    "email_keys.release",
    """
UPDATE users SET email_key = email
 WHERE email_key = %(key)s AND id <> %(user_id)s AND email <> %(key)s AND %(email)s = %(key)s
RETURNING id""",
)

# No row: the address has changed since it was read.
ASSIGN = Statement(
    "email_keys.assign",
    """
UPDATE users
   SET email_key = CASE WHEN EXISTS (SELECT FROM users AS u WHERE u.email_key = %(key)s AND u.id <> %(user_id)s)
                        THEN email ELSE %(key)s END
 WHERE id = %(user_id)s AND email = %(email)s
RETURNING email_key""",
)
