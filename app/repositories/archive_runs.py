"""The SQL of archival runs: what to archive, in which order, and how far a run has come."""

from app.repositories.search import STALE_DOCUMENT
from app.repositories.statement import Statement

# A conversation `c` that may be archived. Being unarchived or restored is a sign of life, as a message is.
_IDLE = """c.storage = 'live' AND NOT c.legal_hold AND c.running_attempt IS NULL
       AND greatest(c.updated_at, c.revived_at) < %(cutoff)s"""

_PAGE = """
    SELECT c.user_id, c.id, c.title, c.storage, c.next_position, c.message_count, c.running_attempt, c.legal_hold,
           c.updated_at, c.revived_at
      FROM conversations AS c WHERE (c.user_id, c.id) > (%(after_user)s, %(after_id)s)
     ORDER BY c.user_id, c.id LIMIT %(page)s"""

_DOCUMENT = """SELECT user_id, indexed_title, indexed_position FROM conversation_search
                 WHERE user_id = c.user_id AND conversation_id = c.id LIMIT 1"""

# Of the next %(page)s conversations by their keys the idle ones, and the last, which says where to go on; `place` is
# its number among them. All are looked at: an index by the time of the last message would cost every turn.
CANDIDATES = Statement(
    "archive_runs.candidates",
    f"""
WITH page AS ({_PAGE}),
last AS (SELECT user_id, id FROM page ORDER BY user_id DESC, id DESC LIMIT 1)
SELECT c.user_id, c.id, c.message_count, {_IDLE} AS idle, {STALE_DOCUMENT} AS unsearchable, c.place
  FROM (SELECT page.*, row_number() OVER (ORDER BY user_id, id) AS place FROM page) AS c
  LEFT JOIN LATERAL ({_DOCUMENT}) AS s ON {_IDLE}
 WHERE ({_IDLE}) OR (c.user_id, c.id) = (SELECT user_id, id FROM last)
 ORDER BY c.user_id, c.id""",
)

# Those of them that still are what they were. PostgreSQL judges the row as it is under the lock. What somebody holds is
# in use and passed over; nothing is archived that would then not be found any more.
TAKE = Statement(
    "archive_runs.take",
    f"""
SELECT c.user_id, c.id, c.message_count, c.next_position
  FROM unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[]) AS picked(user_id, id)
  JOIN conversations AS c ON c.user_id = picked.user_id AND c.id = picked.id
 WHERE {_IDLE}
   AND EXISTS (SELECT FROM conversation_search AS s
                WHERE s.user_id = c.user_id AND s.conversation_id = c.id AND NOT {STALE_DOCUMENT})
 ORDER BY c.user_id, c.id FOR UPDATE OF c SKIP LOCKED""",
)

# What there is to do, a page at a time; `last_user` is null behind the last page.
BACKLOG = Statement(
    "archive_runs.backlog",
    f"""
WITH page AS ({_PAGE}),
idle AS (SELECT c.*, greatest(c.updated_at, c.revived_at) AS alive FROM page AS c WHERE {_IDLE})
SELECT (SELECT count(*) FROM page) AS seen, count(idle.*) AS conversations,
       coalesce(sum(idle.message_count), 0)::bigint AS messages, min(idle.alive) AS oldest, now() AS looked_at,
       (SELECT user_id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_user,
       (SELECT id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_id
  FROM idle""",
)

NOW = Statement("archive_runs.now", "SELECT now() AS now, now() - make_interval(days => %(days)s) AS cutoff")

_COLUMNS = """id, state, started_at, finished_at, cutoff, cursor_user_id, cursor_conversation_id, seen, conversations,
       messages, plain_bytes, bundle_bytes, passed_over, unfit, restored, paused_seconds, paused_for, reason"""

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

# Under the lock of the runs, nobody else can be at it.
CLOSE_GONE = Statement(
    "archive_runs.close_gone",
    """
UPDATE archive_runs SET state = 'interrupted', finished_at = now(), reason = 'its process ended before it did'
 WHERE state = 'running' RETURNING id""",
)

ADVANCE = Statement(
    "archive_runs.advance",
    """
UPDATE archive_runs
   SET cursor_user_id = %(cursor_user)s, cursor_conversation_id = %(cursor_id)s, seen = seen + %(seen)s,
       conversations = conversations + %(conversations)s, messages = messages + %(messages)s,
       plain_bytes = plain_bytes + %(plain_bytes)s, bundle_bytes = bundle_bytes + %(bundle_bytes)s,
       passed_over = passed_over + %(passed_over)s, unfit = unfit + %(unfit)s
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

# How fast the last run was that had something to do.
PACE = Statement(
    "archive_runs.pace",
    """
SELECT messages, extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM archive_runs
 WHERE messages >= 1000 AND state = 'completed' AND finished_at > started_at ORDER BY started_at DESC LIMIT 1""",
)
