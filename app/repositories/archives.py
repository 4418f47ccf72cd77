"""SQL of bundles: reading messages, replacing them by bundles, and restoring them.

The conversations must be locked FOR UPDATE: under a weaker lock, a message that is committed at the same time would be
deleted without being copied.
"""

from app.repositories.message_insert import insert_messages
from app.repositories.statement import Statement

# The next messages of these conversations, from number %(ordinal)s of the arrays (from 1) after position %(after)s: at
# most %(rows)s, and as many as begin within %(bytes)s bytes. `examined` is their number without the second bound. Times
# are in microseconds and JSON is text, so that a restored message is identical.
MESSAGES = Statement(
    "archives.messages",
    """
SELECT ordinal, position, role, content, tool_calls::text, tool_call_id, metadata::text, turn_id::text,
       (extract(epoch FROM created_at) * 1000000)::bigint, examined
  FROM (SELECT next.*, count(*) OVER () AS examined, sum(bytes) OVER (ORDER BY ordinal, position) - bytes AS before
          FROM (SELECT picked.ordinal, message.*,
                       coalesce(octet_length(message.content), 0) + coalesce(pg_column_size(message.tool_calls), 0)
                       + pg_column_size(message.metadata) AS bytes
                  FROM unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[])
                       WITH ORDINALITY AS picked(user_id, conversation_id, ordinal)
                 CROSS JOIN LATERAL (
                       SELECT position, role, content, tool_calls, tool_call_id, metadata, turn_id, created_at
                         FROM messages
                        WHERE user_id = picked.user_id AND conversation_id = picked.conversation_id
                          AND position > CASE WHEN picked.ordinal = %(ordinal)s THEN %(after)s ELSE 0 END
                        ORDER BY position LIMIT %(rows)s) AS message
                 WHERE picked.ordinal >= %(ordinal)s
                 ORDER BY picked.ordinal, message.position LIMIT %(rows)s) AS next) AS measured
 WHERE before < %(bytes)s ORDER BY ordinal, position""",
)

STORE = Statement(
    "archives.store",
    """
INSERT INTO conversation_archives (user_id, conversation_id, run_id, message_count, plain_bytes, sha256, bundle,
                                   previous_status)
SELECT new.user_id, new.conversation_id, %(run_id)s, new.message_count, new.plain_bytes, new.sha256, new.bundle,
       conversations.status
  FROM unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[], %(counts)s::integer[], %(plain_bytes)s::bigint[],
              %(hashes)s::bytea[], %(bundles)s::bytea[])
       AS new(user_id, conversation_id, message_count, plain_bytes, sha256, bundle)
  JOIN conversations ON conversations.user_id = new.user_id AND conversations.id = new.conversation_id""",
)

_COLUMNS = "user_id, conversation_id, run_id, message_count, plain_bytes, sha256, bundle"

READ_BACK = Statement(
    "archives.read_back",
    f"""
SELECT {_COLUMNS} FROM conversation_archives
  JOIN unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[]) AS stored(user_id, conversation_id)
 USING (user_id, conversation_id)""",
)

# Runs in steps by position, so that no statement takes long for a long conversation.
DELETE_MESSAGES = Statement(
    "archives.delete_messages",
    """
WITH deleted AS (
    DELETE FROM messages
     USING unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[]) AS stored(user_id, conversation_id)
     WHERE messages.user_id = stored.user_id AND messages.conversation_id = stored.conversation_id
       AND messages.position <= %(up_to)s
    RETURNING messages.user_id, messages.conversation_id)
SELECT user_id, conversation_id, count(*) AS messages FROM deleted GROUP BY user_id, conversation_id""",
)

CLOSE = Statement(
    "archives.close",
    """
UPDATE conversations SET status = 'archived', storage = 'bundled'
  FROM unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[]) AS stored(user_id, conversation_id)
 WHERE conversations.user_id = stored.user_id AND conversations.id = stored.conversation_id
   AND conversations.storage = 'live' AND conversations.running_attempt IS NULL AND NOT conversations.legal_hold""",
)

READ = Statement(
    "archives.read",
    f"SELECT {_COLUMNS} FROM conversation_archives"
    " WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s",
)

# No row after waiting for a concurrent restore.
LOCK_BUNDLED = Statement(
    "archives.lock_bundled",
    """
SELECT message_count FROM conversations
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND storage = 'bundled' FOR UPDATE""",
)

# %(messages)s is a JSON list of the lines of a bundle.
INSERT_MESSAGES = Statement(
    "archives.insert_messages",
    insert_messages(
        "jsonb_array_elements(%(messages)s::jsonb) AS line",
        user_id="%(user_id)s",
        conversation_id="%(conversation_id)s",
        position="(line->>0)::integer",
        role="line->>1",
        content="line->>2",
        tool_calls="(line->>3)::jsonb",
        tool_call_id="line->>4",
        metadata="(line->>5)::jsonb",
        turn_id="(line->>6)::uuid",
        created_at="timestamptz 'epoch' + (line->>7)::bigint * interval '1 microsecond'",
    ),
)

# Sets `revived_at`, so that the next run does not bundle the conversation again.
REVIVE = Statement(
    "archives.revive",
    """
WITH deleted AS (
    DELETE FROM conversation_archives WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
    RETURNING previous_status)
UPDATE conversations SET storage = 'live', status = deleted.previous_status, revived_at = now()
  FROM deleted WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s""",
)

# The last statement of its transaction, because concurrent restores update the same row.
COUNT_RESTORED = Statement(
    "archives.count_restored", "UPDATE archive_runs SET restored = restored + 1 WHERE id = %(run_id)s"
)

# The next bundled conversations by key, of a run or of a user; NULL means any.
BUNDLED = Statement(
    "archives.bundled",
    """
SELECT user_id, conversation_id, message_count FROM conversation_archives
 WHERE (%(run_id)s::uuid IS NULL OR run_id = %(run_id)s)
   AND (%(owner_id)s::uuid IS NULL OR user_id = %(owner_id)s)
   AND (user_id, conversation_id) > (%(after_user)s, %(after_id)s)
 ORDER BY user_id, conversation_id LIMIT %(batch)s""",
)

COUNT_BUNDLED = Statement(
    "archives.count_bundled",
    """
SELECT count(*) AS conversations, coalesce(sum(message_count), 0)::bigint AS messages,
       coalesce(sum(plain_bytes), 0)::bigint AS plain_bytes FROM conversation_archives
 WHERE (%(run_id)s::uuid IS NULL OR run_id = %(run_id)s)
   AND (%(owner_id)s::uuid IS NULL OR user_id = %(owner_id)s)
   AND (%(conversation_id)s::uuid IS NULL OR conversation_id = %(conversation_id)s)""",
)

# Operators name a conversation by its id alone. No index starts with it, and the query is rare.
OWNER = Statement("archives.owner", "SELECT user_id, storage FROM conversations WHERE id = %(conversation_id)s")

# The next bundles by key, to verify: as many as begin within %(bytes)s bytes, and at most %(batch)s.
NEXT = Statement(
    "archives.next",
    f"""
SELECT {_COLUMNS}
  FROM (SELECT *, sum(octet_length(bundle)) OVER (ORDER BY user_id, conversation_id) - octet_length(bundle) AS before
          FROM (SELECT * FROM conversation_archives
                 WHERE (user_id, conversation_id) > (%(after_user)s, %(after_id)s)
                 ORDER BY user_id, conversation_id LIMIT %(batch)s) AS next) AS measured
 WHERE before < %(bytes)s ORDER BY user_id, conversation_id""",
)

# A random start for a verification that cannot read all bundles.
RANDOM_START = Statement(
    "archives.random_start",
    """
SELECT user_id, conversation_id FROM conversation_archives TABLESAMPLE BERNOULLI (%(percent)s)
 ORDER BY random() LIMIT 1""",
)

# Inconsistent conversations among the next %(batch)s: bundled without a bundle, bundled with live messages, or live
# with a bundle. `last_user` is null after the last page.
MISPLACED = Statement(
    "archives.misplaced",
    """
WITH page AS (SELECT user_id, id, storage FROM conversations WHERE (user_id, id) > (%(after_user)s, %(after_id)s)
               ORDER BY user_id, id LIMIT %(batch)s),
checked AS (
    SELECT page.*, EXISTS (SELECT FROM conversation_archives AS a
                            WHERE a.user_id = page.user_id AND a.conversation_id = page.id) AS bundle,
           storage = 'bundled' AND EXISTS (SELECT FROM messages AS m
                            WHERE m.user_id = page.user_id AND m.conversation_id = page.id) AS live
      FROM page)
SELECT (SELECT count(*) FROM page) AS examined, misplaced.id AS conversation_id, misplaced.storage, misplaced.bundle,
       misplaced.live,
       (SELECT user_id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_user,
       (SELECT id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_id
  FROM (SELECT 1) AS one LEFT JOIN LATERAL (
       SELECT * FROM checked WHERE (storage = 'bundled') <> bundle OR live LIMIT 100) AS misplaced ON true""",
)
