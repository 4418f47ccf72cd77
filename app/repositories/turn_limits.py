"""SQL fragments of the limits on turns: a user's slots for running turns, and the daily token quota.

**Slots.** The unique index `uq_turns_running` allows each slot of a user once among running turns, so no race can
exceed the limit. A begin chooses a slot that is free in its snapshot; if a concurrent begin takes the same slot, the
index rejects one of the two, which is retried. No lock is needed.

**Tokens.** A statement that changes a user's used or reserved tokens first locks the user's row; the lock order is
user, conversation, turn. The lock is a statement of its own, sent together with the statement that needs it, so that
the second statement's snapshot is taken after the wait.
"""

from app.repositories.statement import Statement, with_name
from app.repositories.stored_bytes import STORED
from app.repositories.turn_history import HISTORY_OF_PROJECT

SLOT_INDEX = "uq_turns_running"

# A free slot of %(max_running)s; no row if all are taken or the limit is 0 (none). %(slot_seed)s selects among the free
# slots, so that concurrent begins rarely choose the same one.
FREE_SLOT = """
    SELECT candidate::smallint AS slot FROM generate_series(1, %(max_running)s) AS candidate
     WHERE candidate NOT IN (SELECT slot FROM turns
                              WHERE user_id = %(user_id)s AND status = 'running' AND slot IS NOT NULL)
     ORDER BY (candidate + %(slot_seed)s) %% %(max_running)s LIMIT 1"""
SLOT_AVAILABLE = "(%(max_running)s = 0 OR EXISTS (SELECT FROM free_slot))"

TODAY = "(now() AT TIME ZONE 'UTC')::date"
USED = f"CASE WHEN users.tokens_day >= {TODAY} THEN users.tokens_used ELSE 0 END"
RESERVED = "(SELECT coalesce(sum(quota_tokens), 0) FROM turns WHERE user_id = %(user_id)s AND status = 'running')"

# Estimated tokens of a turn: what is sent to the provider at four bytes per token, and %(output_tokens)s for the
# answer. Four bytes are about right for English and for scripts with three bytes per letter. Files of earlier messages
# are not in the estimate, but they are charged.
_PROJECT = """coalesce(%(project_id)s::uuid, (
               SELECT project_id FROM conversations WHERE user_id = %(user_id)s AND id = %(conversation_id)s))"""
ESTIMATE = f"""
    SELECT least((octet_length(%(content)s) + (
        SELECT coalesce(sum(octet_length(content)), 0) FROM (
            SELECT content, sum(length(content)) OVER (ORDER BY position DESC) AS chars FROM (
                SELECT position, coalesce(content, '') AS content FROM messages
                 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
                 ORDER BY position DESC LIMIT least(%(history)s, CASE WHEN %(project_history)s THEN (
                       SELECT {HISTORY_OF_PROJECT} FROM projects
                        WHERE user_id = %(user_id)s AND id = {_PROJECT}) END)) AS recent) AS sized
         WHERE chars <= %(history_chars)s) + (
        SELECT coalesce(sum(octet_length(content)), 0) FROM prompts
         WHERE user_id = %(user_id)s AND enabled AND project_id = {_PROJECT}) + (
        SELECT least(coalesce(sum(characters), 0), %(files_chars)s) FROM file_texts
         WHERE user_id = %(user_id)s AND file_id IN (
               SELECT id FROM files WHERE user_id = %(user_id)s AND id = ANY (%(file_ids)s::uuid[])
               UNION ALL
               SELECT id FROM files WHERE user_id = %(user_id)s AND project_id = {_PROJECT}))
        ) / 4 + 1 + %(output_tokens)s,
        2147483647)::integer AS tokens"""
REMAINING = f"""
    SELECT tokens_per_day
           - {USED}
           - {RESERVED}
           AS tokens
      FROM users WHERE id = %(user_id)s"""
WITHIN_QUOTA = "(SELECT estimate.tokens <= remaining.tokens FROM estimate, remaining)"


def locking_user(name: str, sql: str) -> str:
    """Return `sql` preceded by a statement that locks the user's row if the user has a quota.

    Both statements are one round trip. `name` is added to the second one, because `Statement` names only the first.
    """
    return f"""
SELECT id FROM users
 WHERE id = %(user_id)s AND tokens_per_day IS NOT NULL FOR NO KEY UPDATE;
{with_name(name, sql)}"""


def charge_quota(tokens: str, source: str) -> str:
    """Return the UPDATE that adds `tokens` to those that the user of `source`, a CTE with `user_id`, has used today."""
    return f"""
    UPDATE users
       SET tokens_used = {USED}
                         + {tokens},
           tokens_day = greatest(users.tokens_day, {TODAY})
      FROM {source}
     WHERE users.id = {source}.user_id AND users.tokens_per_day IS NOT NULL AND {tokens} IS NOT NULL"""


# What a user has used of each limit, and the estimate of the turn that did not begin. No row: the user does not exist.
USAGE = Statement(
    "turns.usage",
    f"""
SELECT users.tokens_per_day,
       {USED} AS used,
       {RESERVED}
           AS reserved,
       estimate.tokens AS wanted,
       {STORED} AS stored_bytes, coalesce(users.max_bytes, %(max_bytes)s) AS max_bytes,
       (SELECT count(*) FROM turns
         WHERE user_id = %(user_id)s AND status = 'running' AND slot <= %(max_running)s) AS running,
       ceil(extract(epoch FROM ({TODAY} + 1) - (now() AT TIME ZONE 'UTC')))::integer
           AS until_midnight
  FROM users, ({ESTIMATE}) AS estimate
 WHERE users.id = %(user_id)s""",
)

# Running turns of the user whose process has stopped. They hold slots and reserved tokens until they are closed.
STALE_TURNS = Statement(
    "turns.stale",
    """
SELECT user_id, id AS turn_id, conversation_id, attempt FROM turns
 WHERE user_id = %(user_id)s AND status = 'running'
   AND heartbeat_at < now() - make_interval(secs => %(stale_seconds)s)""",
)
