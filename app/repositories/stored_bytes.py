"""SQL of the bytes that a user stores, which triggers count.

A message counts with its text, its tool calls and its metadata, in UTF-8 and as PostgreSQL prints them; a bundle with
its compressed size; equal files once, and the text that was extracted from each file. The other texts of a user count
too: of projects, prompts and tasks, and the metadata of conversations.
"""

from app.repositories.statement import Statement

STORED = (
    """coalesce((SELECT sum(stored_bytes.bytes) FROM stored_bytes WHERE stored_bytes.user_id = users.id), 0)::bigint"""
)

# Whether the user may store more; %(max_bytes)s is the limit of users without one of their own, 0 means none.
WITHIN_LIMIT = f"""(
           SELECT coalesce(users.max_bytes, %(max_bytes)s) = 0 OR {STORED} < coalesce(users.max_bytes, %(max_bytes)s)
             FROM users WHERE users.id = %(user_id)s)"""

GET = Statement(
    "stored_bytes.get",
    f"""
SELECT users.id, {STORED} AS used, users.max_bytes FROM users WHERE users.id = %(user_id)s""",
)

SET_LIMIT = Statement(
    "stored_bytes.set_limit",
    f"""
UPDATE users SET max_bytes = %(max_bytes)s::bigint WHERE id = %(user_id)s
RETURNING users.id, {STORED} AS used, users.max_bytes""",
)

# The bytes of a user's rows; the same expressions as in the triggers.
_ACTUAL = """
           coalesce((SELECT sum(coalesce(octet_length(content), 0) + coalesce(octet_length(tool_calls::text), 0)
                                + octet_length(metadata::text)) FROM messages WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(octet_length(metadata::text) - 2) FROM conversations WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(octet_length(bundle)) FROM conversation_archives WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(coalesce(octet_length(description), 0) + octet_length(settings::text))
                         FROM projects WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(octet_length(content) + coalesce(octet_length(draft), 0))
                         FROM prompts WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(octet_length(content)) FROM prompt_versions WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(octet_length(title) + coalesce(octet_length(description), 0))
                         FROM tasks WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(bytes) FROM file_contents WHERE user_id = page.id), 0)
           + coalesce((SELECT sum(octet_length(content)) FROM file_passages WHERE user_id = page.id), 0)"""
_PAGE = """
    SELECT users.id FROM users WHERE users.id > %(after)s ORDER BY users.id LIMIT %(batch)s"""
_COUNTED = f"""
    SELECT page.id AS user_id, ({_ACTUAL})::bigint AS actual,
           coalesce((SELECT sum(bytes) FROM stored_bytes WHERE user_id = page.id), 0)::bigint AS counted
      FROM page"""

# The next users in the order of their ids, with what their rows have and what is counted.
COMPARE = Statement("stored_bytes.compare", f"WITH page AS ({_PAGE}){_COUNTED} ORDER BY user_id")

# Both numbers are of one snapshot, so their difference stays right while the user continues to write.
CORRECT = Statement(
    "stored_bytes.correct",
    f"""
WITH page AS (SELECT %(user_id)s::uuid AS id),
compared AS ({_COUNTED})
SELECT add_stored_bytes(user_id, actual - counted), actual - counted AS difference FROM compared""",
)

PURGE_ERASED = Statement(
    "stored_bytes.purge_erased",
    """
DELETE FROM stored_bytes WHERE NOT EXISTS (SELECT FROM users WHERE users.id = stored_bytes.user_id)""",
)

DELETE = Statement("stored_bytes.delete", "DELETE FROM stored_bytes WHERE user_id = %(user_id)s")
