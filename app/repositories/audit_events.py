"""SQL of the audit. An operator's event is stored in AUTOCOMMIT: it stays stored even if the action fails."""

from app.repositories.statement import Statement

BEGIN = Statement(
    "audit_events.begin",
    """
INSERT INTO audit_events (id, actor_kind, actor, actor_id, address, action, target, result, details, request_id)
VALUES (%(id)s, %(actor_kind)s, %(actor)s, %(actor_id)s, %(address)s, %(action)s, %(target)s, 'begun',
        %(details)s::jsonb, %(request_id)s)
RETURNING id""",
)

# An action that is complete, in the transaction that completes it.
ADD = Statement(
    "audit_events.add",
    """
INSERT INTO audit_events
       (id, actor_kind, actor, actor_id, address, action, target, result, details, request_id, ended_at)
VALUES (%(id)s, 'user', %(user_id)s::uuid::text, %(user_id)s, %(address)s, %(action)s, %(user_id)s::uuid::text, 'done',
        %(details)s::jsonb, %(request_id)s, now())
RETURNING id""",
)

# A restored database of an older version has no column `seal`, so it is read through the row.
_UNSEALED = "(to_jsonb({table}) ->> 'seal') IS NULL"

# If the action took so long that its beginning is sealed, the end is a second event, which refers to the first.
END = Statement(
    "audit_events.end",
    f"""
WITH ended AS (
    UPDATE audit_events
       SET result = %(result)s, reason = %(reason)s, details = %(details)s::jsonb,
           ended_at = greatest(now(), created_at)
     WHERE id = %(id)s AND {_UNSEALED.format(table="audit_events")}
    RETURNING id)
INSERT INTO audit_events (id, actor_kind, actor, actor_id, address, action, target, result, reason, details, request_id,
                          ended_at)
SELECT %(new_id)s, actor_kind, actor, actor_id, address, action, target, %(result)s, %(reason)s,
       %(details)s::jsonb || jsonb_build_object('begun', id), request_id, now()
  FROM audit_events WHERE id = %(id)s AND NOT EXISTS (SELECT FROM ended)
RETURNING id""",
)

# One event per caller and minute; the id is derived from both, so all processes count in the same row.
COUNT_REFUSED = Statement(
    "audit_events.count_refused",
    f"""
INSERT INTO audit_events AS event (id, actor_kind, actor, actor_id, address, action, result, details, ended_at)
VALUES (%(id)s, %(actor_kind)s, %(actor)s, %(actor_id)s, %(address)s, %(action)s, 'refused',
        jsonb_build_object('requests', %(requests)s::bigint, 'routes', %(routes)s::jsonb), now())
ON CONFLICT (id) DO UPDATE
   SET ended_at = greatest(now(), event.created_at),
       details = jsonb_build_object(
           'requests', (event.details ->> 'requests')::bigint + %(requests)s::bigint,
           'routes', (SELECT jsonb_agg(route)
                        FROM (SELECT DISTINCT route
                                FROM jsonb_array_elements((event.details -> 'routes') || %(routes)s::jsonb) AS t (route)
                               ORDER BY route LIMIT %(max_routes)s) AS merged))
 WHERE {_UNSEALED.format(table="event")}
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
