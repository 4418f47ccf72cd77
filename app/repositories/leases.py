"""SQL of leases, in AUTOCOMMIT. All times are the database's."""

from app.repositories.statement import Statement

# An end that is further away than a lease can last was written before the clock was set back.
TAKE = Statement(
    "leases.take",
    """
INSERT INTO leases AS held (name, holder, expires_at)
VALUES (%(name)s, %(holder)s, now() + make_interval(secs => %(seconds)s))
    ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, taken_at = now(), expires_at = excluded.expires_at
 WHERE held.expires_at < now() OR held.expires_at > now() + make_interval(secs => 2 * %(seconds)s)
RETURNING holder""",
)

RENEW = Statement(
    "leases.renew",
    """
UPDATE leases SET expires_at = now() + make_interval(secs => %(seconds)s)
 WHERE name = %(name)s AND holder = %(holder)s
RETURNING holder""",
)

RELEASE = Statement("leases.release", "DELETE FROM leases WHERE name = %(name)s AND holder = %(holder)s RETURNING name")

HELD = Statement("leases.held", "SELECT holder, expires_at FROM leases WHERE name = %(name)s AND expires_at >= now()")
