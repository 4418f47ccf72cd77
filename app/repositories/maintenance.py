"""SQL of the maintenance of all users' rows, in batches and in AUTOCOMMIT.

Locked rows are skipped, because erasing a user locks the same rows in another order.
"""

from app.repositories.statement import Statement

# By the small index of running turns, from the one after %(after_user)s, %(after_id)s.
STALE_TURNS = Statement(
    "maintenance.stale_turns",
    """
SELECT user_id, id AS turn_id, conversation_id, attempt FROM turns
 WHERE status = 'running' AND heartbeat_at < now() - make_interval(secs => %(stale_seconds)s)
   AND (user_id, id) > (%(after_user)s, %(after_id)s)
 ORDER BY user_id, id LIMIT %(batch)s""",
    index="uq_turns_running",
)

_ENDED = """(expires_at < now() - make_interval(secs => %(keep)s)
             OR revoked_at < now() - make_interval(secs => %(keep)s))"""

COUNT_ENDED_SESSIONS = Statement(
    "maintenance.count_ended_sessions", f"SELECT count(*) AS rows FROM sessions WHERE {_ENDED}"
)

PURGE_SESSIONS = Statement(
    "maintenance.purge_sessions",
    f"""
WITH ended AS (SELECT user_id, id FROM sessions WHERE {_ENDED} LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM sessions USING ended WHERE sessions.user_id = ended.user_id AND sessions.id = ended.id
RETURNING sessions.id""",
)

COUNT_ENDED_API_KEYS = Statement(
    "maintenance.count_ended_api_keys", f"SELECT count(*) AS rows FROM api_keys WHERE {_ENDED}"
)

PURGE_API_KEYS = Statement(
    "maintenance.purge_api_keys",
    f"""
WITH ended AS (SELECT user_id, id FROM api_keys WHERE {_ENDED} LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM api_keys USING ended WHERE api_keys.user_id = ended.user_id AND api_keys.id = ended.id
RETURNING api_keys.id""",
)

COUNT_EXPIRED_RESETS = Statement(
    "maintenance.count_expired_resets", "SELECT count(*) AS rows FROM password_resets WHERE expires_at < now()"
)

PURGE_RESETS = Statement(
    "maintenance.purge_resets",
    """
WITH expired AS (
    SELECT user_id, id FROM password_resets WHERE expires_at < now() LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM password_resets USING expired
 WHERE password_resets.user_id = expired.user_id AND password_resets.id = expired.id
RETURNING password_resets.id""",
)

COUNT_EXPIRED_KEYS = Statement(
    "maintenance.count_expired_keys", "SELECT count(*) AS rows FROM idempotency_keys WHERE expires_at < now()"
)

PURGE_KEYS = Statement(
    "maintenance.purge_keys",
    """
WITH expired AS (
    SELECT user_id, key FROM idempotency_keys WHERE expires_at < now()
     ORDER BY expires_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM idempotency_keys USING expired
 WHERE idempotency_keys.user_id = expired.user_id AND idempotency_keys.key = expired.key
RETURNING 1""",
)

# One page of the turns with a key, in the order of the existing index on keys: an index on their age would cost each
# turn. The result has the end of the page, how many of it were too old, and whether it was the last one.
_PAGE = """
    SELECT user_id, id, idempotency_key,
           status <> 'running' AND started_at < now() - make_interval(secs => %(keep)s) AS old
      FROM turns
     WHERE idempotency_key IS NOT NULL AND (user_id, idempotency_key) > (%(after_user)s, %(after_key)s)
     ORDER BY user_id, idempotency_key LIMIT %(batch)s"""

_PAGE_END = """
       (SELECT count(*) < %(batch)s FROM page) AS last, ending.user_id, ending.idempotency_key
  FROM (SELECT 1) AS one
  LEFT JOIN (SELECT user_id, idempotency_key FROM page ORDER BY user_id DESC, idempotency_key DESC LIMIT 1) AS ending
         ON true"""

COUNT_TURN_KEYS = Statement(
    "maintenance.count_turn_keys",
    f"WITH page AS ({_PAGE}) SELECT (SELECT count(*) FROM page WHERE old) AS freed, {_PAGE_END}",
    index="uq_turns_idempotency_key",
)

FREE_TURN_KEYS = Statement(
    "maintenance.free_turn_keys",
    f"""
WITH page AS ({_PAGE}),
held AS (
    SELECT turns.user_id, turns.id FROM turns JOIN page ON turns.user_id = page.user_id AND turns.id = page.id
     WHERE page.old AND turns.status <> 'running' FOR UPDATE OF turns SKIP LOCKED),
freed AS (
    UPDATE turns SET idempotency_key = NULL, request_hash = NULL
      FROM held WHERE turns.user_id = held.user_id AND turns.id = held.id
    RETURNING turns.id)
SELECT (SELECT count(*) FROM freed) AS freed, {_PAGE_END}""",
    index="uq_turns_idempotency_key",
)

COUNT_OLD_TOOL_CALLS = Statement(
    "maintenance.count_old_tool_calls",
    "SELECT count(*) AS rows FROM tool_calls WHERE created_at < now() - make_interval(days => %(keep)s)",
)

PURGE_TOOL_CALLS = Statement(
    "maintenance.purge_tool_calls",
    """
WITH old AS (
    SELECT user_id, turn_id, key FROM tool_calls WHERE created_at < now() - make_interval(days => %(keep)s)
     LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM tool_calls USING old
 WHERE tool_calls.user_id = old.user_id AND tool_calls.turn_id = old.turn_id AND tool_calls.key = old.key
RETURNING 1""",
)

COUNT_OLD_EVENTS = Statement(
    "maintenance.count_old_events",
    "SELECT count(*) AS rows FROM turn_events WHERE created_at < now() - make_interval(secs => %(keep)s)",
)

PURGE_EVENTS = Statement(
    "maintenance.purge_events",
    """
WITH old AS (
    SELECT user_id, turn_id, sequence FROM turn_events WHERE created_at < now() - make_interval(secs => %(keep)s)
     LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
DELETE FROM turn_events USING old
 WHERE turn_events.user_id = old.user_id AND turn_events.turn_id = old.turn_id AND turn_events.sequence = old.sequence
RETURNING 1""",
)
