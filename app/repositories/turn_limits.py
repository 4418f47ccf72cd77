"""The SQL of what a turn must find free before it begins: a place among its user's running turns, and tokens.

**Places.** `uq_turns_running` holds each of a user's slots once among running turns, so that no more than there are
slots can run, whatever races. A begin takes one that its snapshot shows to be free; if another begin is faster, the
index says so and it is tried again. Nobody locks anything for it.

**Tokens.** Whoever changes what is used or set aside locks the user's row first: user, conversation, turn. The lock is
a statement of its own, sent along with the one that it is for: that one's snapshot is then taken after the wait.
"""

from app.repositories.statement import Statement

PLACES = "uq_turns_running"  # what a second running turn in the same place violates

# A free place of %(max_running)s, 0 being no limit; which of them depends on %(lucky)s, so that racers rarely meet.
PLACE = """
    SELECT free::smallint AS slot FROM generate_series(1, %(max_running)s) AS free
     WHERE free NOT IN (SELECT slot FROM turns
                         WHERE user_id = %(user_id)s AND status = 'running' AND slot IS NOT NULL)
     ORDER BY (free + %(lucky)s) %% %(max_running)s LIMIT 1"""
HAS_PLACE = "(%(max_running)s = 0 OR EXISTS (SELECT FROM place))"

# Within EXISTS over a session or key joined with its user: such a user's turns need no lock and count nowhere.
WITHOUT_QUOTA = " AND users.tokens_per_day IS NULL"

LOCK_USER = """
SELECT id FROM users WHERE id = %(user_id)s AND tokens_per_day IS NOT NULL FOR NO KEY UPDATE;
"""

TODAY = "(now() AT TIME ZONE 'UTC')::date"
USED = f"CASE WHEN users.tokens_day >= {TODAY} THEN users.tokens_used ELSE 0 END"
RESERVED = """
    (SELECT coalesce(sum(quota_tokens), 0) FROM turns WHERE user_id = %(user_id)s AND status = 'running')"""

# What a turn will take, before anybody knows: what is sent at four bytes a token, which is about right for English and
# for scripts whose letters take three bytes, and %(output_tokens)s for the answer.
SIZE = """
    SELECT least((octet_length(%(content)s) + (
        SELECT coalesce(sum(octet_length(content)), 0) FROM (
            SELECT content, sum(length(content)) OVER (ORDER BY position DESC) AS chars FROM (
                SELECT position, coalesce(content, '') AS content FROM messages
                 WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
                 ORDER BY position DESC LIMIT %(history)s) AS recent) AS sized
         WHERE chars <= %(history_chars)s) + (
        SELECT coalesce(sum(octet_length(content)), 0) FROM prompts
         WHERE user_id = %(user_id)s AND enabled AND project_id = coalesce(%(project_id)s::uuid, (
               SELECT project_id FROM conversations
                WHERE user_id = %(user_id)s AND id = %(conversation_id)s)))) / 4 + 1 + %(output_tokens)s,
        2147483647)::integer AS tokens"""
LEFT = f"SELECT tokens_per_day - {USED} - {RESERVED} AS tokens FROM users WHERE id = %(user_id)s"
FITS = "(SELECT size.tokens <= left_over.tokens FROM size, left_over)"


def charge(tokens: str, source: str) -> str:
    """The UPDATE that counts `tokens` of a turn in `source`, which has its `user_id`, as used today."""
    return f"""
    UPDATE users SET tokens_used = {USED} + {tokens}, tokens_day = greatest(users.tokens_day, {TODAY})
      FROM {source} WHERE users.id = {source}.user_id AND users.tokens_per_day IS NOT NULL AND {tokens} IS NOT NULL"""


# What a begin that was refused for nothing else may have been refused for. No row: there is no such user.
ROOM = Statement(
    "turns.room",
    f"""
SELECT users.tokens_per_day, {USED} AS used, {RESERVED} AS reserved, size.tokens AS wanted,
       (SELECT count(*) FROM turns
         WHERE user_id = %(user_id)s AND status = 'running' AND slot <= %(max_running)s) AS running,
       ceil(extract(epoch FROM ({TODAY} + 1) - (now() AT TIME ZONE 'UTC')))::integer AS until_midnight
  FROM users, ({SIZE}) AS size WHERE users.id = %(user_id)s""",
)

# Turns of a process that has gone keep their places and tokens until somebody closes them.
SILENT = Statement(
    "turns.silent",
    """
SELECT user_id, id AS turn_id, conversation_id, attempt FROM turns
 WHERE user_id = %(user_id)s AND status = 'running'
   AND heartbeat_at < now() - make_interval(secs => %(stale_seconds)s)""",
)
