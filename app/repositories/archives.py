"""The SQL of bundles: many conversations' messages read, replaced by their bundles, and put back.

Whoever runs these holds the conversations FOR UPDATE: under a weaker lock, a message committed at the same moment is
copied by nobody and deleted by this.
"""

from app.repositories.statement import Statement

# The next messages of these conversations, from %(place)s of the arrays (counting from 1) beyond position %(after)s on:
# at most %(rows)s, and as many as begin within %(bytes)s bytes. `looked` says how many there were without the second
# bound. Times are whole microseconds and JSON is text, so that what is read is what was stored, to the last byte.
MESSAGES = Statement(
    "archives.messages",
    """
SELECT place, position, role, content, tool_calls::text, tool_call_id, metadata::text, turn_id::text,
       (extract(epoch FROM created_at) * 1000000)::bigint, looked
  FROM (SELECT next.*, count(*) OVER () AS looked, sum(bytes) OVER (ORDER BY place, position) - bytes AS before
          FROM (SELECT picked.place, message.*,
                       coalesce(octet_length(message.content), 0) + coalesce(pg_column_size(message.tool_calls), 0)
                       + pg_column_size(message.metadata) AS bytes
                  FROM unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[])
                       WITH ORDINALITY AS picked(user_id, conversation_id, place)
                 CROSS JOIN LATERAL (
                       SELECT position, role, content, tool_calls, tool_call_id, metadata, turn_id, created_at
                         FROM messages
                        WHERE user_id = picked.user_id AND conversation_id = picked.conversation_id
                          AND position > CASE WHEN picked.place = %(place)s THEN %(after)s ELSE 0 END
                        ORDER BY position LIMIT %(rows)s) AS message
                 WHERE picked.place >= %(place)s
                 ORDER BY picked.place, message.position LIMIT %(rows)s) AS next) AS measured
 WHERE before < %(bytes)s ORDER BY place, position""",
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

# In steps by position, so that no single statement takes long however long the conversation is.
DELETE_MESSAGES = Statement(
    "archives.delete_messages",
    """
WITH gone AS (
    DELETE FROM messages
     USING unnest(%(user_ids)s::uuid[], %(conversation_ids)s::uuid[]) AS stored(user_id, conversation_id)
     WHERE messages.user_id = stored.user_id AND messages.conversation_id = stored.conversation_id
       AND messages.position <= %(up_to)s
    RETURNING messages.user_id, messages.conversation_id)
SELECT user_id, conversation_id, count(*) AS messages FROM gone GROUP BY user_id, conversation_id""",
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

# Whoever waits here for another's restore finds no row afterwards.
LOCK_BUNDLED = Statement(
    "archives.lock_bundled",
    """
SELECT message_count FROM conversations
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND storage = 'bundled' FOR UPDATE""",
)

# %(messages)s is a JSON list of the lines of a bundle.
PUT_BACK = Statement(
    "archives.put_back",
    """
INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id, metadata, turn_id,
                      created_at)
SELECT %(user_id)s, %(conversation_id)s, (line->>0)::integer, line->>1, line->>2, (line->>3)::jsonb, line->>4,
       (line->>5)::jsonb, (line->>6)::uuid, timestamptz 'epoch' + (line->>7)::bigint * interval '1 microsecond'
  FROM jsonb_array_elements(%(messages)s::jsonb) AS line""",
)

# A conversation counts as alive from now on: else the next run would bundle it again.
REVIVE = Statement(
    "archives.revive",
    """
WITH gone AS (
    DELETE FROM conversation_archives WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
    RETURNING previous_status)
UPDATE conversations SET storage = 'live', status = gone.previous_status, revived_at = now()
  FROM gone WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s""",
)

# Last in its transaction, because many restores may share the row.
COUNT_RESTORED = Statement(
    "archives.count_restored", "UPDATE archive_runs SET restored = restored + 1 WHERE id = %(run_id)s"
)

# The next bundled conversations of a run, of a user or of everybody, by their keys. NULL is any.
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

# An operator names a conversation by its own id. No index begins with that; it is asked once in a while.
OWNER = Statement("archives.owner", "SELECT user_id, storage FROM conversations WHERE id = %(conversation_id)s")

# Whole bundles, to be verified, by their keys; as many as begin within %(bytes)s bytes, but no more than %(batch)s.
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

# Where a verification that cannot read everything begins: at anybody's.
SOMEWHERE = Statement(
    "archives.somewhere",
    """
SELECT user_id, conversation_id FROM conversation_archives TABLESAMPLE BERNOULLI (%(percent)s)
 ORDER BY random() LIMIT 1""",
)

# Of the next %(batch)s conversations those that are in two places, or in none: bundled without a bundle, bundled with
# messages that are live, live with a bundle. `last_user` is null behind the last page.
MISPLACED = Statement(
    "archives.misplaced",
    """
WITH page AS (SELECT user_id, id, storage FROM conversations WHERE (user_id, id) > (%(after_user)s, %(after_id)s)
               ORDER BY user_id, id LIMIT %(batch)s),
looked AS (
    SELECT page.*, EXISTS (SELECT FROM conversation_archives AS a
                            WHERE a.user_id = page.user_id AND a.conversation_id = page.id) AS bundle,
           storage = 'bundled' AND EXISTS (SELECT FROM messages AS m
                            WHERE m.user_id = page.user_id AND m.conversation_id = page.id) AS live
      FROM page)
SELECT (SELECT count(*) FROM page) AS seen, found.id AS conversation_id, found.storage, found.bundle, found.live,
       (SELECT user_id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_user,
       (SELECT id FROM page ORDER BY user_id DESC, id DESC LIMIT 1) AS last_id
  FROM (SELECT 1) AS one LEFT JOIN LATERAL (
       SELECT * FROM looked WHERE (storage = 'bundled') <> bundle OR live LIMIT 100) AS found ON true""",
)
