"""SQL of the audit. Callers run it in AUTOCOMMIT: what happened stays written, whatever becomes of the act itself."""

from app.repositories.statement import Statement

BEGIN = Statement(
    "audit_events.begin",
    """
INSERT INTO audit_events (id, actor_kind, actor, actor_id, address, action, target, result, details, request_id)
VALUES (%(id)s, %(actor_kind)s, %(actor)s, %(actor_id)s, %(address)s, %(action)s, %(target)s, 'begun',
        %(details)s::jsonb, %(request_id)s)
RETURNING id""",
)

END = Statement(
    "audit_events.end",
    """
UPDATE audit_events
   SET result = %(result)s, reason = %(reason)s, details = %(details)s::jsonb, ended_at = greatest(now(), created_at)
 WHERE id = %(id)s
RETURNING id""",
)

# Ids are ordered by time.
PAGE = Statement(
    "audit_events.page",
    """
SELECT id, created_at, actor_kind, actor, address, action, target, result, reason, details, request_id
  FROM audit_events
 WHERE (%(target)s::text IS NULL OR target = %(target)s) AND (%(action)s::text IS NULL OR action = %(action)s)
   AND (%(after)s::uuid IS NULL OR id < %(after)s)
 ORDER BY id DESC LIMIT %(limit)s""",
)
