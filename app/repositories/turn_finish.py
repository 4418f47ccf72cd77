"""SQL that ends an attempt: a compare-and-set on `conversations.running_attempt`.

No row means that the attempt was fenced: another process closed it. See `turn_begin` for the lease and the lock order.
"""

from dataclasses import dataclass
from uuid import UUID

from app.repositories.message_insert import insert_messages
from app.repositories.statement import Statement
from app.repositories.turn_limits import charge_quota, locking_user
from app.repositories.turns import TURN_COLUMNS


@dataclass(frozen=True, kw_only=True)
class FinishParameters:
    """Parameters of FINISH and FINISH_IN_QUOTA. Pass them as `vars(parameters)`."""

    user_id: UUID
    conversation_id: UUID
    turn_id: UUID
    attempt: UUID
    provider: str
    model: str | None  # None: as it is
    status: str
    finish_reason: str | None
    error: str | None  # JSON: code, detail
    input_tokens: int | None
    output_tokens: int | None
    since_first_token: float | None  # seconds
    count: int  # of messages
    messages: str  # JSON list of {ordinal, role, content, tool_calls, tool_call_id, metadata}; `ordinal` from 0
    preview: str | None  # None: as it is
    events: str | None  # JSON list of the events that are not stored yet, as in turn_events; None: do not store any
    events_sequence: int | None  # of the last of them
    last_sequence: int  # of the turn's last event
    charged: int | None = None  # tokens; this and the next only for FINISH_IN_QUOTA
    estimated: bool | None = None  # whether `charged` is an estimate


# Releases the conversation from the attempt, and makes room for %(count)s messages. No row if the attempt was fenced.
RELEASE_CONVERSATION = """
    UPDATE conversations
       SET next_position = next_position + %(count)s, message_count = message_count + %(count)s, running_attempt = NULL,
           preview = coalesce(%(preview)s, preview), updated_at = greatest(updated_at, now())
     WHERE user_id = %(user_id)s AND id = %(conversation_id)s AND running_attempt = %(attempt)s
    RETURNING user_id, id, next_position - %(count)s AS position"""

# %(messages)s at the positions from `conversation.position` on, which is a CTE with the id and user_id too.
NEW_MESSAGES = insert_messages(
    """conversation CROSS JOIN json_to_recordset(%(messages)s::json) AS item(
           ordinal integer, role text, content text, tool_calls jsonb, tool_call_id text, metadata jsonb)""",
    user_id="conversation.user_id",
    conversation_id="conversation.id",
    position="conversation.position + item.ordinal",
    metadata="coalesce(item.metadata, '{}')",
    turn_id="%(turn_id)s",
)


def _finish(*, in_quota: bool) -> Statement:
    """Build one variant. `in_quota`: the turn has reserved tokens, which `charged` replaces."""
    charged, quota = "", ""
    if in_quota:
        charged = ", quota_tokens = %(charged)s, quota_estimated = %(estimated)s"
        quota = f",\nquota AS ({charge_quota('%(charged)s', 'conversation')})"
    text = f"""
WITH conversation AS ({RELEASE_CONVERSATION}),
turn AS (
    UPDATE turns
       SET status = %(status)s, finished_at = now(), provider = %(provider)s,
           model = coalesce(%(model)s, CASE WHEN turns.provider = %(provider)s THEN model END),
           input_tokens = %(input_tokens)s, output_tokens = %(output_tokens)s, finish_reason = %(finish_reason)s,
           error = %(error)s::jsonb, first_token_at = now() - make_interval(secs => %(since_first_token)s),
           answer_position = CASE WHEN %(count)s > 0 THEN conversation.position + %(count)s - 1 END,
           last_sequence = %(last_sequence)s{charged}
      FROM conversation WHERE turns.user_id = conversation.user_id AND turns.id = %(turn_id)s
    RETURNING {TURN_COLUMNS}),
new_messages AS ({NEW_MESSAGES}),
new_events AS (
    INSERT INTO turn_events (user_id, turn_id, sequence, attempt, events)
    SELECT user_id, %(turn_id)s, %(events_sequence)s, %(attempt)s, %(events)s::json
      FROM conversation WHERE %(events)s IS NOT NULL
    ON CONFLICT DO NOTHING){quota}
SELECT * FROM turn"""
    name = "turns.finish_in_quota" if in_quota else "turns.finish"
    return Statement(name, locking_user(name, text) if in_quota else text)


FINISH, FINISH_IN_QUOTA = _finish(in_quota=False), _finish(in_quota=True)
