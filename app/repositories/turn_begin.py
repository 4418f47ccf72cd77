"""SQL that begins a turn: one statement, in sixteen variants.

It takes the conversation's lease, stores the user's message and the running turn, and returns what the provider needs.
It returns no row where a condition does not hold; `turn_diagnosis` then reads which.

`conversations.running_attempt` is the lease and the fence. After waiting for a row lock, PostgreSQL re-checks an
UPDATE's conditions on that row only, so everything that must hold after the wait is a column of `conversations`. The
lock order is user (only with a quota), conversation, turn. Run in AUTOCOMMIT, each statement is one transaction.
"""

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from app.database import violated_constraint
from app.errors import TooManyTurns
from app.repositories.message_insert import insert_messages
from app.repositories.statement import Statement
from app.repositories.stored_bytes import WITHIN_LIMIT
from app.repositories.turn_caller import live_caller
from app.repositories.turn_history import HISTORY_COLUMNS, HISTORY_OF_PROJECT, recent_messages
from app.repositories.turn_limits import (
    ESTIMATE,
    FREE_SLOT,
    REMAINING,
    SLOT_AVAILABLE,
    SLOT_INDEX,
    WITHIN_QUOTA,
    locking_user,
)

_MAX_SLOT_SEED = 2**15
_MAX_SLOT_COLLISIONS = 10


class BeginKind(StrEnum):
    """Starting point of a begin. The value is the name of the statement."""

    EXISTING = "turns.begin"  # an existing conversation
    NEW = "turns.begin_new"  # a new conversation
    APPROVAL = "turns.begin_approval"  # calls of tools that the last turn has left to the user's approval
    RETRY = "turns.begin_retry"  # a failed, cancelled or interrupted turn: a new attempt at it


@dataclass(frozen=True, kw_only=True)
class BeginParameters:
    """Parameters of the begin, diagnosis and usage statements. Pass them as `vars(parameters)`."""

    user_id: UUID
    session_id: UUID | None  # either this or the key
    key_id: UUID | None
    key_hash: bytes | None
    conversation_id: UUID
    project_id: UUID | None
    turn_id: UUID
    attempt: UUID
    idempotency_key: str | None
    request_hash: bytes | None  # SHA-256; set with the idempotency key
    content: str
    file_ids: list[UUID]  # attached to it
    title: str
    preview: str | None
    provider: str | None  # None: the project's, else `default_provider`
    model: str | None
    default_provider: str
    history: int  # messages; a lower number of the project counts
    project_history: bool  # whether that number counts: the request has none
    history_chars: int
    stale_seconds: float
    max_running: int  # 0: no limit
    max_bytes: int  # of a user without a limit of their own; 0: no limit
    output_tokens: int  # reserved for the answer
    message_metadata: str  # of the user's message, as JSON
    files_chars: int  # of files that are sent at most
    slot_seed: int
    position: int | None = None  # of the turn's message; only for RETRY
    next_position: int | None = None  # of the conversation; only for RETRY and APPROVAL

    def with_new_slot_seed(self) -> "BeginParameters":
        """Return a copy that selects another free slot."""
        return replace(self, slot_seed=new_slot_seed())


def new_slot_seed() -> int:
    """Return a random seed for the choice of a slot."""
    return random.randrange(_MAX_SLOT_SEED)  # noqa: S311  # not a secret


# The key of an earlier chat, or of another creating POST.
_EARLIER_REQUEST = """
           SELECT FROM turns WHERE user_id = %(user_id)s AND idempotency_key = %(idempotency_key)s
           UNION ALL
           SELECT FROM idempotency_keys WHERE user_id = %(user_id)s AND key = %(idempotency_key)s"""


def _lease_existing(caller: str) -> str:
    return f"""
    UPDATE conversations
       SET next_position = next_position + 1, message_count = message_count + 1, running_attempt = %(attempt)s,
           status = 'active', title = coalesce(title, %(title)s), preview = %(preview)s,
           updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt IS NULL AND storage = 'live'
       AND NOT EXISTS ({_EARLIER_REQUEST})
       AND {caller}
       AND {SLOT_AVAILABLE}
    RETURNING user_id, id, project_id, title, next_position - 1 AS position"""


def _insert_conversation(caller: str) -> str:
    return f"""
    INSERT INTO conversations (user_id, id, project_id, title, preview, next_position, message_count, running_attempt)
    SELECT %(user_id)s, %(conversation_id)s, %(project_id)s::uuid, %(title)s, %(preview)s, 2, 1, %(attempt)s
     WHERE NOT EXISTS ({_EARLIER_REQUEST})
       AND {caller}
       AND {SLOT_AVAILABLE}
    RETURNING user_id, id, project_id, title, 1 AS position"""


def _lease_for_approval(caller: str) -> str:
    """Return the UPDATE that takes the lease only while the calls are the newest message. It adds no message."""
    return f"""
    UPDATE conversations SET running_attempt = %(attempt)s, status = 'active', updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt IS NULL AND storage = 'live'
       AND next_position = %(next_position)s
       AND NOT EXISTS ({_EARLIER_REQUEST})
       AND {caller}
       AND {SLOT_AVAILABLE}
    RETURNING user_id, id, project_id, title, next_position AS position"""


def _lease_for_retry(caller: str) -> str:
    """Return the UPDATE that takes the lease only while the turn's own messages are the newest of the conversation."""
    return f"""
    UPDATE conversations SET running_attempt = %(attempt)s, status = 'active', updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt IS NULL AND storage = 'live'
       AND next_position = %(next_position)s
       AND {caller}
       AND {SLOT_AVAILABLE}
    RETURNING user_id, id, project_id, title, %(position)s AS position"""


# The request overrides the project. A project's model belongs to its provider.
_PROVIDER = "coalesce(%(provider)s, project.provider, %(default_provider)s)"
_MODEL = "coalesce(%(model)s, CASE WHEN %(provider)s::text IS NULL THEN project.model END)"


_HISTORY = f"""least(
                 %(history)s, CASE WHEN %(project_history)s THEN (SELECT {HISTORY_OF_PROJECT} FROM project) END)"""


# Names of the user and the project are read for a prompt with variables only.
_PROMPT = """json_build_object(
                   'id', prompts.id, 'version', prompts.version, 'content', prompts.content,
                   'names', CASE WHEN prompts.variables THEN json_build_object(
                       'user.name', (SELECT users.name FROM users WHERE users.id = prompts.user_id),
                       'project.name', (SELECT project.name FROM project)) END)"""


def _insert_turn(reservation: str) -> str:
    return f"""
    INSERT INTO turns (user_id, id, conversation_id, attempt, status, position, idempotency_key, request_hash,
                       provider, model, heartbeat_at, started_at, slot, quota_tokens, quota_estimated)
    SELECT conversation.user_id, %(turn_id)s, conversation.id, %(attempt)s, 'running', conversation.position,
           %(idempotency_key)s, %(request_hash)s::bytea, {_PROVIDER},
           {_MODEL}, now(), now(),
           (SELECT slot FROM free_slot), {reservation}
      FROM conversation LEFT JOIN project ON true
    RETURNING provider, model, started_at, 0 AS last_sequence, quota_tokens"""


def _restart_turn(reservation: str) -> str:
    return f"""
    UPDATE turns
       SET attempt = %(attempt)s, status = 'running', heartbeat_at = now(),
           provider = {_PROVIDER},
           model = {_MODEL},
           started_at = now(), finished_at = NULL, first_token_at = NULL, cancel_requested_at = NULL, error = NULL,
           finish_reason = NULL, input_tokens = NULL, output_tokens = NULL, answer_position = NULL,
           events_wanted = false, slot = (SELECT slot FROM free_slot),
           (quota_tokens, quota_estimated) = ROW({reservation})
      FROM conversation LEFT JOIN project ON true
     WHERE turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
    RETURNING turns.provider, turns.model, turns.started_at, turns.last_sequence, turns.quota_tokens"""


_INSERT_USER_MESSAGE = insert_messages(
    "conversation",
    user_id="user_id",
    conversation_id="id",
    position="position",
    role="'user'",
    content="%(content)s",
    tool_calls="NULL::jsonb",
    tool_call_id="NULL",
    metadata="%(message_metadata)s::jsonb",
    turn_id="%(turn_id)s",
)
_USER_MESSAGE = f"\nuser_message AS ({_INSERT_USER_MESSAGE}),"


# The tools of a turn depend on them.
_KEY_SCOPES = """
       (SELECT scopes FROM api_keys WHERE user_id = %(user_id)s AND id = %(key_id)s) AS key_scopes,"""
# The references of the message that is answered once more.
_STORED_FILES = """(SELECT messages.metadata -> 'files' FROM messages
         WHERE messages.user_id = conversation.user_id AND messages.conversation_id = conversation.id
           AND messages.position = conversation.position)"""


def _begin_statement(kind: BeginKind, *, by_key: bool, in_quota: bool) -> Statement:
    """Build a variant. `by_key`: the caller has an API key, else a session. `in_quota`: the user has a token quota."""
    caller = f"{live_caller(by_key=by_key, without_quota=not in_quota)}\n       AND {WITHIN_LIMIT}"
    reservation, quota = "NULL::integer, NULL::boolean", ""
    if in_quota:
        caller += f"\n       AND {WITHIN_QUOTA}"
        reservation = "(SELECT tokens FROM estimate), true"
        quota = f"estimate AS ({ESTIMATE}),\nremaining AS ({REMAINING}),\n"
    files = "%(message_metadata)s::jsonb -> 'files'"
    match kind:
        case BeginKind.EXISTING:
            conversation, turn, message = _lease_existing(caller), _insert_turn(reservation), _USER_MESSAGE
        case BeginKind.NEW:
            conversation, turn, message = _insert_conversation(caller), _insert_turn(reservation), _USER_MESSAGE
        case BeginKind.APPROVAL:
            conversation, turn, message = _lease_for_approval(caller), _insert_turn(reservation), ""
            files = "NULL::jsonb"
        case BeginKind.RETRY:
            conversation, turn, message = _lease_for_retry(caller), _restart_turn(reservation), ""
            files = _STORED_FILES
    text = f"""
WITH {quota}free_slot AS ({FREE_SLOT}),
conversation AS ({conversation}),
project AS (
    SELECT projects.* FROM projects, conversation
     WHERE projects.user_id = conversation.user_id AND projects.id = conversation.project_id),
turn AS ({turn}),{message}
recent AS ({recent_messages(_HISTORY)})
SELECT conversation.position, conversation.title, conversation.project_id,
       turn.provider, turn.model, turn.started_at, turn.last_sequence, turn.quota_tokens,
       (SELECT settings FROM project) AS project_settings,
       (SELECT json_agg({_PROMPT} ORDER BY prompts.position, prompts.id) FROM prompts
         WHERE prompts.user_id = conversation.user_id AND prompts.project_id = conversation.project_id
           AND prompts.enabled) AS prompts,{_KEY_SCOPES if by_key else ""}
       {files} AS files,
       EXISTS (SELECT FROM files WHERE files.user_id = conversation.user_id
                  AND files.project_id = conversation.project_id) AS has_files,{HISTORY_COLUMNS}
  FROM conversation, turn"""
    name = f"{kind}_in_quota" if in_quota else kind.value
    return Statement(name, locking_user(name, text) if in_quota else text)


_VARIANTS = {
    (kind, by_key, in_quota): _begin_statement(kind, by_key=by_key, in_quota=in_quota)
    for kind, by_key, in_quota in product(BeginKind, (False, True), (False, True))
}


def variant(kind: BeginKind, *, by_key: bool, in_quota: bool = False) -> Statement:
    """Return the begin statement for a caller with an API key or a session, and a user with or without a quota."""
    return _VARIANTS[kind, by_key, in_quota]


def execute_begin(
    connection: Connection, kind: BeginKind, parameters: BeginParameters, *, in_quota: bool
) -> Row[object] | None:
    """Run a begin, with another slot each time that a concurrent begin took the same one; None if it began nothing.

    `connection` is in AUTOCOMMIT. Raises `TooManyTurns` after ten collisions, and `IntegrityError` for other
    constraints.
    """
    statement = variant(kind, by_key=parameters.key_id is not None, in_quota=in_quota)
    for _ in range(_MAX_SLOT_COLLISIONS):
        try:
            return statement.one(connection, vars(parameters))
        except IntegrityError as error:
            if violated_constraint(error) != SLOT_INDEX:
                raise
            parameters = parameters.with_new_slot_seed()
    raise TooManyTurns(retry_after=1)
