"""The SQL of the turn: **begin** and **finish**, one statement each, and what stands around them.

`conversations.running_attempt` is the fence. PostgreSQL, having waited for a row lock, checks an UPDATE's conditions
again on that row only, so everything that must still be true after the wait is a column of `conversations`. Everybody
locks the conversation before the turn, and before both the user, if that has a quota. Callers run these in AUTOCOMMIT:
each is one transaction.
"""

from app.repositories.statement import Statement
from app.repositories.turn_limits import FITS, HAS_PLACE, LEFT, LOCK_USER, PLACE, SIZE, WITHOUT_QUOTA, charge

# A session that may act: %(user_id)s, %(session_id)s.
_LIVE_SESSION = """
    SELECT FROM sessions JOIN users ON users.id = sessions.user_id
    WHERE sessions.user_id = %(user_id)s AND sessions.id = %(session_id)s
      AND sessions.revoked_at IS NULL AND sessions.expires_at > now() AND users.status = 'active'"""

# An API key that may chat: %(user_id)s, %(key_id)s, %(key_hash)s.
_LIVE_KEY = """
    SELECT FROM api_keys JOIN users ON users.id = api_keys.user_id
    WHERE api_keys.user_id = %(user_id)s AND api_keys.id = %(key_id)s AND api_keys.key_hash = %(key_hash)s
      AND api_keys.revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())
      AND 'chat' = ANY (api_keys.scopes) AND users.status = 'active'"""

# Another request that had the same key: a chat, or a POST that created something else.
_OTHER_REQUEST = "SELECT FROM idempotency_keys WHERE user_id = %(user_id)s AND key = %(idempotency_key)s"
_PRIOR_TURN = f"""
    SELECT FROM turns WHERE user_id = %(user_id)s AND idempotency_key = %(idempotency_key)s
    UNION ALL {_OTHER_REQUEST}"""

# Who may begin a turn, and what is set aside for it: (quota_tokens, quota_estimated). For users without a quota, and
# for those who have one.
_LIVE, _SET_ASIDE = f"EXISTS ({_LIVE_SESSION}{WITHOUT_QUOTA})", "NULL::integer, NULL::boolean"
_LIVE_IN_QUOTA, _SET_ASIDE_IN_QUOTA = f"EXISTS ({_LIVE_SESSION}) AND {FITS}", "(SELECT tokens FROM size), true"

_TAKE_CONVERSATION = f"""
    UPDATE conversations
       SET next_position = next_position + 1, message_count = message_count + 1, running_attempt = %(attempt)s,
           status = 'active', title = coalesce(title, %(title)s), preview = %(preview)s,
           updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt IS NULL AND storage = 'live'
       AND NOT EXISTS ({_PRIOR_TURN}) AND {_LIVE} AND {HAS_PLACE}
    RETURNING user_id, id, project_id, title, next_position - 1 AS position"""

_NEW_CONVERSATION = f"""
    INSERT INTO conversations (user_id, id, project_id, title, preview, next_position, message_count, running_attempt)
    SELECT %(user_id)s, %(conversation_id)s, %(project_id)s::uuid, %(title)s, %(preview)s, 2, 1, %(attempt)s
     WHERE NOT EXISTS ({_PRIOR_TURN}) AND {_LIVE} AND {HAS_PLACE}
    RETURNING user_id, id, project_id, title, 1 AS position"""

# The newest %(history)s messages before `c.position`, newest first.
_RECENT = """
    SELECT recent.* FROM c CROSS JOIN LATERAL (
        SELECT position, role, content, tool_calls, tool_call_id FROM messages
         WHERE user_id = c.user_id AND conversation_id = c.id AND position < c.position
         ORDER BY position DESC LIMIT %(history)s) AS recent"""

# Those of them that fit into %(history_chars)s characters, oldest first. `newest` is the last position seen at all.
_HISTORY = """
    (SELECT max(position) FROM recent) AS newest,
    (SELECT json_agg(json_build_object('role', role, 'content', content, 'tool_calls', tool_calls,
                                       'tool_call_id', tool_call_id) ORDER BY position)
       FROM (SELECT *, sum(coalesce(length(content), 0)) OVER (ORDER BY position DESC) AS chars FROM recent) AS sized
      WHERE chars <= %(history_chars)s) AS history"""


# What a project of the conversation chooses, the request may override. A project's model belongs to its provider.
_PROVIDER = "coalesce(%(provider)s, project.provider, %(default_provider)s)"
_MODEL = "coalesce(%(model)s, CASE WHEN %(provider)s::text IS NULL THEN project.model END)"

_NEW_TURN = f"""
    INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, idempotency_key, request_hash,
                       provider, model, heartbeat_at, started_at, slot, quota_tokens, quota_estimated)
    SELECT c.user_id, %(turn_id)s, c.id, %(attempt)s, 'running', c.position,
           %(idempotency_key)s, %(request_hash)s::bytea, {_PROVIDER}, {_MODEL}, now(), now(),
           (SELECT slot FROM place), {_SET_ASIDE}
      FROM c LEFT JOIN project ON true
    RETURNING provider, model, started_at, 0 AS last_sequence, quota_tokens"""

_USER_MESSAGE = """,
m AS (
    INSERT INTO messages (user_id, conversation_id, position, role, content, turn_id)
    SELECT user_id, id, position, 'user', %(content)s, %(turn_id)s FROM c)"""

# The same turn once more: only where its own messages are the newest of the conversation, which `next_position` tells.
_TAKE_AGAIN = f"""
    UPDATE conversations SET running_attempt = %(attempt)s, status = 'active', updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt IS NULL AND storage = 'live'
       AND next_position = %(next_position)s AND {_LIVE} AND {HAS_PLACE}
    RETURNING user_id, id, project_id, title, %(position)s AS position"""

_RESTARTED_TURN = f"""
    UPDATE turns
       SET attempt = %(attempt)s, status = 'running', provider = {_PROVIDER}, model = {_MODEL}, heartbeat_at = now(),
           started_at = now(), finished_at = NULL, first_token_at = NULL, cancel_requested_at = NULL, error = NULL,
           finish_reason = NULL, input_tokens = NULL, output_tokens = NULL, answer_position = NULL,
           events_wanted = false, slot = (SELECT slot FROM place),
           (quota_tokens, quota_estimated) = ROW({_SET_ASIDE})
      FROM c LEFT JOIN project ON true WHERE turns.user_id = c.user_id AND turns.id = %(turn_id)s
    RETURNING turns.provider, turns.model, turns.started_at, turns.last_sequence, turns.quota_tokens"""


def _begin(take: str, ledger: str, store: str) -> str:
    return f"""
WITH place AS ({PLACE}),
c AS ({take}),
project AS (SELECT projects.* FROM projects, c WHERE projects.user_id = c.user_id AND projects.id = c.project_id),
t AS ({ledger}){store},
recent AS ({_RECENT})
SELECT c.position, c.title, t.provider, t.model, t.started_at, t.last_sequence, t.quota_tokens,
       (SELECT settings FROM project) AS project_settings,
       (SELECT json_agg(prompts.content ORDER BY prompts.position, prompts.id) FROM prompts
         WHERE prompts.user_id = c.user_id AND prompts.project_id = c.project_id AND prompts.enabled) AS prompts,
       {_HISTORY}
  FROM c, t"""


BEGIN = Statement("turns.begin", _begin(_TAKE_CONVERSATION, _NEW_TURN, _USER_MESSAGE))
BEGIN_NEW = Statement("turns.begin_new", _begin(_NEW_CONVERSATION, _NEW_TURN, _USER_MESSAGE))
BEGIN_AGAIN = Statement("turns.begin_again", _begin(_TAKE_AGAIN, _RESTARTED_TURN, ""))

# A begin that waited for the row's lock has read the history from before the wait; this reads it again.
REREAD = Statement(
    "turns.reread_history",
    f"""
WITH c AS (SELECT %(user_id)s AS user_id, %(conversation_id)s AS id, %(position)s AS position),
recent AS ({_RECENT})
SELECT {_HISTORY}""",
)

# Why a begin took nothing. Read in the order of the columns.
DIAGNOSE = Statement(
    "turns.diagnose",
    f"""
SELECT EXISTS ({_LIVE_SESSION}) AS session_live,
       prior.id AS prior_id, prior.request_hash AS prior_hash, EXISTS ({_OTHER_REQUEST}) AS other_request,
       conversation.id AS found, conversation.storage, conversation.running_attempt AS running_attempt,
       running.id AS running_id,
       -- A lease without a running turn, which no statement of ours leaves behind, must not block for ever.
       coalesce(running.heartbeat_at, conversation.updated_at) < now() - make_interval(secs => %(stale_seconds)s)
           AS stale
  FROM (SELECT 1) AS one
  LEFT JOIN turns AS prior ON prior.user_id = %(user_id)s AND prior.idempotency_key = %(idempotency_key)s
  LEFT JOIN conversations AS conversation
         ON conversation.user_id = %(user_id)s AND conversation.id = %(conversation_id)s
  LEFT JOIN turns AS running ON running.user_id = conversation.user_id AND running.conversation_id = conversation.id
                            AND running.attempt = conversation.running_attempt AND running.status = 'running'""",
)

# Ends a lease that no running turn belongs to.
RELEASE = Statement(
    "turns.release",
    """
UPDATE conversations SET running_attempt = NULL, updated_at = greatest(updated_at, now())
 WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
   AND NOT EXISTS (SELECT FROM turns WHERE user_id = %(user_id)s AND conversation_id = %(conversation_id)s
                      AND attempt = %(attempt)s AND status = 'running')
RETURNING id""",
)


def _in_quota(statement: Statement) -> Statement:
    """A begin that sets tokens aside, with its user's row locked before anything else is looked at."""
    name = f"{statement.name}_in_quota"
    text = statement.sql.replace(_LIVE, _LIVE_IN_QUOTA).replace(_SET_ASIDE, _SET_ASIDE_IN_QUOTA)
    text = text.replace("WITH place", f"WITH /* {name} */ size AS ({SIZE}),\nleft_over AS ({LEFT}),\nplace", 1)
    return Statement(name, LOCK_USER + text)


def _by_key(statement: Statement) -> Statement:
    """For callers with an API key, which takes the session's place."""
    return Statement(statement.name, statement.sql.replace(_LIVE_SESSION, _LIVE_KEY))


_BEGINS = (BEGIN, BEGIN_NEW, BEGIN_AGAIN)
_VARIANTS = {
    **{(each, False, False): each for each in (*_BEGINS, DIAGNOSE)},
    **{(each, True, False): _by_key(each) for each in (*_BEGINS, DIAGNOSE)},
    **{(each, False, True): _in_quota(each) for each in _BEGINS},
    **{(each, True, True): _by_key(_in_quota(each)) for each in _BEGINS},
}


def called(statement: Statement, *, by_key: bool, in_quota: bool = False) -> Statement:
    """`statement`, of those that check who calls, for a caller with an API key or else with a session; of the begins,
    for a user with a quota or else without."""
    return _VARIANTS[statement, by_key, in_quota]


_COLUMNS = """turns.id, turns.conversation_id, turns.attempt, turns.status, turns.position, turns.answer_position,
       turns.provider, turns.model, turns.input_tokens, turns.output_tokens, turns.finish_reason, turns.error,
       turns.started_at, turns.first_token_at, turns.finished_at, turns.last_sequence"""

_LAST_SET = "last_sequence = %(last_sequence)s"

# Every end of an attempt, by whomever: a compare-and-set on the fence. No row: somebody else closed it.
# %(messages)s is a JSON list of {place, role, content, tool_calls, tool_call_id, metadata}, place counting from 0;
# %(told)s what its followers have been told and nobody has stored yet, as in turn_events, or NULL.
FINISH = Statement(
    "turns.finish",
    f"""
WITH c AS (
    UPDATE conversations
       SET next_position = next_position + %(count)s, message_count = message_count + %(count)s, running_attempt = NULL,
           preview = coalesce(%(preview)s, preview), updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
    RETURNING user_id, id, next_position - %(count)s AS position),
t AS (
    UPDATE turns
       SET status = %(status)s, finished_at = now(), provider = %(provider)s,
           model = coalesce(%(model)s, CASE WHEN turns.provider = %(provider)s THEN model END),
           input_tokens = %(input_tokens)s, output_tokens = %(output_tokens)s, finish_reason = %(finish_reason)s,
           error = %(error)s::jsonb, first_token_at = now() - make_interval(secs => %(since_first_token)s),
           answer_position = CASE WHEN %(count)s > 0 THEN c.position + %(count)s - 1 END,
           {_LAST_SET}
      FROM c WHERE turns.user_id = c.user_id AND turns.id = %(turn_id)s
    RETURNING {_COLUMNS}),
m AS (
    INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id, metadata,
                          turn_id)
    SELECT c.user_id, c.id, c.position + item.place, item.role, item.content, item.tool_calls, item.tool_call_id,
           coalesce(item.metadata, '{{}}'), %(turn_id)s
      FROM c CROSS JOIN json_to_recordset(%(messages)s::json) AS item(
           place integer, role text, content text, tool_calls jsonb, tool_call_id text, metadata jsonb)),
e AS (
    INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
    SELECT user_id, %(turn_id)s, %(told_sequence)s, %(attempt)s, %(told)s::json FROM c WHERE %(told)s IS NOT NULL
    ON CONFLICT DO NOTHING)
SELECT * FROM t""",
)

# The same for a turn with tokens set aside: it took %(charged)s, which is an estimate or what the provider said.
FINISH_IN_QUOTA = Statement(
    "turns.finish_in_quota",
    LOCK_USER
    + FINISH.sql.replace("WITH c AS", "WITH /* turns.finish_in_quota */ c AS", 1)
    .replace(_LAST_SET, f"{_LAST_SET}, quota_tokens = %(charged)s, quota_estimated = %(estimated)s")
    .replace("\nSELECT * FROM t", f",\nq AS ({charge('%(charged)s', 'c')})\nSELECT * FROM t"),
)

# The next caller closes an attempt whose worker has gone silent; one that has spoken since is left alone. It took what
# was set aside for it: nobody knows better.
CLOSE_STALE = Statement(
    "turns.close_stale",
    f"""{LOCK_USER}
WITH /* turns.close_stale */ c AS (
    UPDATE conversations SET running_attempt = NULL, updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
       AND EXISTS (SELECT FROM turns WHERE user_id = %(user_id)s AND id = %(turn_id)s
                      AND heartbeat_at < now() - make_interval(secs => %(stale_seconds)s))
    RETURNING user_id),
t AS (
    UPDATE turns SET status = 'interrupted', finished_at = now(), error = %(error)s::jsonb,
           -- What it told its own readers last was stored by nobody: a number well beyond that is never told twice.
           last_sequence = 100000 + greatest(coalesce(last_sequence, 0), coalesce((SELECT max(sequence)
               FROM turn_events WHERE turn_events.user_id = c.user_id AND turn_events.turn_id = turns.id), 0))
      FROM c WHERE turns.user_id = c.user_id AND turns.id = %(turn_id)s
    RETURNING turns.id, turns.user_id, turns.quota_tokens),
q AS ({charge("t.quota_tokens", "t")})
SELECT id FROM t""",
)

# One for all the running turns of a process, once a second. What does not come back is no longer ours. Whoever holds
# the row of one of them must not stop the hearts of the others, so that one is left out.
HEARTBEAT = Statement(
    "turns.heartbeat",
    """
WITH mine AS (
    SELECT * FROM unnest(%(user_ids)s::uuid[], %(attempts)s::uuid[], %(turn_ids)s::uuid[]) AS my(user_id, attempt, id)),
beating AS (
    SELECT turns.user_id, turns.id FROM turns JOIN mine USING (user_id, id, attempt)
     WHERE turns.status = 'running' FOR NO KEY UPDATE OF turns SKIP LOCKED),
beaten AS (
    UPDATE turns SET heartbeat_at = now() FROM beating
     WHERE turns.user_id = beating.user_id AND turns.id = beating.id)
SELECT turns.attempt, turns.cancel_requested_at, turns.events_wanted
  FROM turns JOIN mine USING (user_id, id, attempt) WHERE turns.status = 'running'""",
)

REQUEST_CANCEL = Statement(
    "turns.request_cancel",
    """
UPDATE turns SET cancel_requested_at = coalesce(cancel_requested_at, now())
 WHERE user_id = %(user_id)s AND id = %(turn_id)s AND status = 'running' RETURNING id""",
)

GET = Statement(
    "turns.get",
    f"""SELECT {_COLUMNS}, turns.heartbeat_at < now() - make_interval(secs => %(stale_seconds)s) AS stale
          FROM turns WHERE user_id = %(user_id)s AND id = %(turn_id)s""",
)

# Whose a conversation's newest message is; null where they are in a bundle.
LAST_MESSAGE = Statement(
    "turns.last_message",
    """
SELECT conversations.next_position, conversations.storage, messages.turn_id
  FROM conversations LEFT JOIN messages ON messages.user_id = conversations.user_id
       AND messages.conversation_id = conversations.id AND messages.position = conversations.next_position - 1
 WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s""",
)

# The last message of a turn, which is its answer once it has one; nulls where it is not in the live table.
ANSWER = Statement(
    "turns.answer",
    """
SELECT messages.position, messages.role, messages.content, messages.tool_calls, messages.tool_call_id,
       messages.metadata, messages.created_at, conversations.title
  FROM conversations LEFT JOIN messages ON messages.user_id = conversations.user_id
                    AND messages.conversation_id = conversations.id AND messages.position = %(position)s
 WHERE conversations.user_id = %(user_id)s AND conversations.id = %(conversation_id)s""",
)
