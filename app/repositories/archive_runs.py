"""SQL of archival runs: their candidates and their progress."""

from app.repositories.search_state import SEARCH_ROW, STALE_DOCUMENT
from app.repositories.statement import Statement

# A conversation `c` that may be archived. Unarchiving and restoring count as activity, as a message does.
_IDLE = """c.storage = 'live' AND NOT c.legal_hold AND c.running_attempt IS NULL
       AND greatest(c.updated_at, c.revived_at) < %(cutoff)s"""

_PAGE = """
    SELECT c.user_id, c.id, c.title, c.storage, c.next_position, c.message_count, c.running_attempt, c.legal_hold,
           c.updated_at, c.revived_at
      FROM conversations AS c WHERE (c.user_id, c.id) > (%(after_user)s, %(after_id)s)
     ORDER BY c.user_id, c.id LIMIT %(page)s"""

# The idle ones among the next %(page)s conversations by key, and the last one, which is the cursor. `ordinal` is the
# number of a conversation among them. All are read: an index on the time of the last message would cost each turn.
CANDIDATES = Statement(
    "archive_runs.candidates",
    f"""
WITH page AS ({_PAGE}),
last AS (SELECT user_id, id FROM page ORDER BY user_id DESC, id DESC LIMIT 1)
SELECT c.user_id, c.id, c.message_count, {_IDLE} AS idle, {STALE_DOCUMENT} AS unsearchable, c.ordinal
  FROM (SELECT page.*, row_number() OVER (ORDER BY user_id, id) AS ordinal FROM page) AS c
  LEFT JOIN LATERAL ({SEARCH_ROW}) AS s ON {_IDLE}
 WHERE ({_IDLE}) OR (c.user_id, c.id) = (SELECT user_id, id FROM last)
 ORDER BY c.user_id, c.id""",
)

# Lock the candidates that are still idle: PostgreSQL evaluates the condition on the locked row. Locked conversations
# are in use and skipped. A conversation without a current search document is not archived, because it could not be
# found.
LOCK_IDLE = Statement(
    "archive_runs.lock_idle",
    f"""
SELECT c.user_id, c.id, c.message_count, c.next_position
  FROM unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[]) AS candidate(user_id, id)
  JOIN conversations AS c ON c.user_id = candidate.user_id AND c.id = candidate.id
 WHERE {_IDLE}
   AND EXISTS (SELECT FROM conversation_search AS s
                WHERE s.user_id = c.user_id AND s.conversation_id = c.id AND NOT {STALE_DOCUMENT})
 ORDER BY c.user_id, c.id FOR UPDATE OF c SKIP LOCKED""",
)

# The backlog of one page of conversations; `last_user` is null after the last page.
BACKLOG = Statement(
    "archive_runs.backlog",
    f"""
WITH page AS ({_PAGE}),
idle AS (SELECT c.*, greatest(c.updated_at, c.revived_at) AS active_at FROM page AS c WHERE {_IDLE})
SELECT (SELECT count(*) FROM page) AS examined, count(idle.*) AS conversations,
       coalesce(sum(idle.message_count), 0)::bigint AS messages, min(idle.active_at) AS oldest, now() AS measured_at,
       (SELECT user_id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_user,
       (SELECT id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_id
  FROM idle""",
)

NOW = Statement("archive_runs.now", "SELECT now() AS now, now() - make_interval(days => %(days)s) AS cutoff")

_COLUMNS = """id, state, started_at, finished_at, cutoff, cursor_user_id, cursor_conversation_id, examined,
       conversations, messages, plain_bytes, bundle_bytes, skipped, rejected, restored,
       paused_seconds, paused_for, reason"""

BEGIN = Statement(
    "archive_runs.begin",
    f"INSERT INTO archive_runs (id, cutoff) VALUES (%(run_id)s, %(cutoff)s) RETURNING {_COLUMNS}",
)

RESUME = Statement(
    "archive_runs.resume",
    f"""
UPDATE archive_runs SET state = 'running', finished_at = NULL, reason = NULL
 WHERE id = %(run_id)s AND state IN ('stopped', 'failed', 'interrupted') RETURNING {_COLUMNS}""",
)

# The lock of the runs is held, so no other run is active.
CLOSE_INTERRUPTED = Statement(
    "archive_runs.close_interrupted",
    """
UPDATE archive_runs SET state = 'interrupted', finished_at = now(), reason = 'its process ended before it did'
 WHERE state = 'running' RETURNING id""",
)

ADVANCE = Statement(
    "archive_runs.advance",
    """
UPDATE archive_runs
   SET cursor_user_id = %(cursor_user)s, cursor_conversation_id = %(cursor_id)s, examined = examined + %(examined)s,
       conversations = conversations + %(conversations)s, messages = messages + %(messages)s,
       plain_bytes = plain_bytes + %(plain_bytes)s, bundle_bytes = bundle_bytes + %(bundle_bytes)s,
       skipped = skipped + %(skipped)s, rejected = rejected + %(rejected)s
 WHERE id = %(run_id)s AND state = 'running'""",
)

PAUSED = Statement(
    "archive_runs.paused",
    """
UPDATE archive_runs SET paused_seconds = paused_seconds + %(seconds)s, paused_for = %(reason)s
 WHERE id = %(run_id)s""",
)

END = Statement(
    "archive_runs.end",
    f"""
UPDATE archive_runs SET state = %(state)s, finished_at = now(), reason = %(reason)s
 WHERE id = %(run_id)s AND state = 'running' RETURNING {_COLUMNS}""",
)

GET = Statement("archive_runs.get", f"SELECT {_COLUMNS} FROM archive_runs WHERE id = %(run_id)s")

LATEST = Statement(
    "archive_runs.latest", f"SELECT {_COLUMNS} FROM archive_runs ORDER BY started_at DESC LIMIT %(limit)s"
)

# Size and duration of the last completed run with at least 1,000 messages.
PACE = Statement(
    "archive_runs.pace",
    """
SELECT messages, extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM archive_runs
 WHERE messages >= 1000 AND state = 'completed' AND finished_at > started_at ORDER BY started_at DESC LIMIT 1""",
)
