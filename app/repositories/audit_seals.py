"""SQL of the audit's seals. Sealing locks no event that is still written."""

from app.repositories.statement import Statement

NEWEST = Statement(
    "audit_seals.newest",
    """
SELECT number, sealed_at, complete_until, key_id, hash FROM audit_seals ORDER BY number DESC LIMIT 1""",
)

# An event is written by a transaction of one statement, and its time is the begin of that transaction. So everything
# that ended before the oldest transaction that writes now can be seen. Other roles' transactions are not seen without
# pg_read_all_stats; the grace covers them.
COMPLETE_UNTIL = Statement(
    "audit_seals.complete_until",
    """
SELECT now() AS now,
       least(now() - make_interval(secs => %(grace)s),
             (SELECT min(xact_start) FROM pg_catalog.pg_stat_activity
               WHERE datname = current_database() AND backend_xid IS NOT NULL AND pid <> pg_backend_pid())) AS until""",
)

# Times are whole microseconds and details are text, so that nothing depends on how a driver prints them.
_EVENT = """id::text AS id, actor_kind, actor, actor_id::text AS actor_id, address, action, target, result, reason,
       details::text AS details, request_id, (extract(epoch FROM created_at) * 1000000)::bigint AS created_us,
       (extract(epoch FROM ended_at) * 1000000)::bigint AS ended_us"""

# An action that has not ended after %(lost)s seconds is sealed as begun.
UNSEALED = Statement(
    "audit_seals.unsealed",
    f"""
SELECT {_EVENT} FROM audit_events
 WHERE seal IS NULL
   AND coalesce(ended_at, created_at + make_interval(secs => %(lost)s)) < %(until)s
 ORDER BY id LIMIT %(batch)s""",
)

INSERT = Statement(
    "audit_seals.insert",
    """
INSERT INTO audit_seals (number, sealed_at, complete_until, key_id, event_ids, event_hashes, hash)
VALUES (%(number)s, %(sealed_at)s, %(complete_until)s, %(key_id)s, %(event_ids)s::uuid[], %(event_hashes)s, %(hash)s)
RETURNING number""",
)

MARK_EVENTS = Statement(
    "audit_seals.mark_events",
    "UPDATE audit_events SET seal = %(number)s WHERE id = ANY(%(event_ids)s::uuid[]) AND seal IS NULL RETURNING id",
)

RANGE = Statement(
    "audit_seals.range",
    """
SELECT count(*) AS number_of_seals, coalesce(min(number), 1) AS first, coalesce(max(number), 0) AS last
  FROM audit_seals""",
)

PAGE = Statement(
    "audit_seals.page",
    """
SELECT number, sealed_at, complete_until, key_id, event_ids::text[] AS event_ids, event_hashes, hash FROM audit_seals
 WHERE number > %(after)s ORDER BY number LIMIT %(batch)s""",
)

GET = Statement(
    "audit_seals.get",
    "SELECT number, complete_until, hash FROM audit_seals WHERE number = %(number)s",
)

EVENTS = Statement(
    "audit_seals.events",
    f"""
SELECT {_EVENT}, seal FROM audit_events
 WHERE id = ANY(%(event_ids)s::uuid[]) OR seal = %(number)s""",
)

# Events that no seal contains: of a seal that does not exist, or without a seal although they claim to have ended
# before a seal that had all such events.
FOREIGN = Statement(
    "audit_seals.foreign",
    """
SELECT id, action, seal FROM audit_events
 WHERE ((seal > %(last)s OR seal < 1) AND NOT EXISTS (SELECT FROM audit_seals WHERE number = audit_events.seal))
    OR (seal IS NULL AND coalesce(ended_at, created_at + make_interval(secs => %(lost)s)) < %(until)s)
 ORDER BY id LIMIT %(batch)s""",
)

OLDEST_UNSEALED = Statement(
    "audit_seals.oldest_unsealed",
    """
SELECT count(*) AS events, min(ended_at) AS ended_at FROM audit_events WHERE seal IS NULL AND ended_at IS NOT NULL""",
)
