"""Calls of tools that wait for the user's approval: the last message of a completed turn."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from app.enums import TurnStatus
from app.errors import Conflict, ConversationAdvanced, InvalidInput, NotFound
from app.repositories import turns as sql
from app.services import archives
from app.turns.answer import CallResult

APPROVAL = "tool_approval"  # the finish reason of a turn that ends with such calls


@dataclass(frozen=True, slots=True)
class PendingCalls:
    """The calls of the turn `turn_id`, in OpenAI's form, and the ids of those that the user approves.

    `content` is the text before the calls. They are pending while the conversation's next position is `next_position`.
    `answered` are the results of an earlier attempt at the turn that approves them, by id.
    """

    turn_id: UUID
    conversation_id: UUID
    next_position: int
    content: str | None
    calls: Sequence[dict[str, Any]]
    approved: frozenset[str]
    answered: Mapping[str, CallResult] = field(default_factory=dict)

    def message(self) -> Mapping[str, Any]:
        """Return the message of the calls, as an item of the history."""
        return {"role": "assistant", "content": self.content, "tool_calls": list(self.calls), "tool_call_id": None}


def read_pending(
    connection: Connection, user_id: UUID, turn_id: UUID, approved: Collection[str], stale_seconds: float
) -> PendingCalls:
    """Read the calls of a turn that wait, or have waited, for approval. The begin checks whether they still do.

    Raises `NotFound`, `Conflict` for a turn without such calls, and `InvalidInput` for an id that is none of them.
    """
    row = sql.GET.one(connection, {"user_id": user_id, "turn_id": turn_id, "stale_seconds": stale_seconds})
    if row is None:
        raise NotFound("There is no such turn.")
    if row.status != TurnStatus.COMPLETED or row.finish_reason != APPROVAL:
        raise Conflict("No call of this turn waits for approval.")
    message = _read_message(connection, user_id, row.conversation_id, row.answer_position, turn_id)
    ids = {call["id"] for call in message.tool_calls}
    if unknown := sorted(set(approved) - ids):
        raise InvalidInput(
            fields={"approved": [f"No call of this turn: {', '.join(unknown)}. Its calls: {', '.join(sorted(ids))}."]}
        )
    return PendingCalls(
        turn_id,
        row.conversation_id,
        row.answer_position + 1,
        message.content,
        message.tool_calls,
        frozenset(approved),
    )


def failed_approval(connection: Connection, user_id: UUID, pending: PendingCalls) -> UUID:
    """Return the turn that has made or declined the calls and did not complete, so it may be attempted again.

    Raises `ConversationAdvanced` if there is none: the calls have been answered, or a message has declined them.
    """
    parameters = {"user_id": user_id, "conversation_id": pending.conversation_id, "position": pending.next_position}
    row = sql.FAILED_APPROVAL.one(connection, parameters)
    if row is None:
        raise ConversationAdvanced("The calls no longer wait for approval: a later message or request has ended that.")
    turn_id: UUID = row.turn_id
    return turn_id


def with_answers(connection: Connection, user_id: UUID, pending: PendingCalls, turn_id: UUID) -> PendingCalls:
    """Add the results that earlier attempts of the turn `turn_id` have stored."""
    key = {"user_id": user_id, "conversation_id": pending.conversation_id, "turn_id": turn_id}
    rows = sql.RESULTS.all(connection, {**key, "ids": [call["id"] for call in pending.calls]})
    answered = {
        row.tool_call_id: CallResult(
            row.tool_call_id, row.metadata.get("tool", ""), row.content, row.metadata.get("is_error", False)
        )
        for row in rows
    }
    return replace(pending, answered=answered)


def _read_message(connection: Connection, user_id: UUID, conversation_id: UUID, position: int, turn_id: UUID) -> Any:
    key = {"user_id": user_id, "conversation_id": conversation_id}
    parameters = {**key, "position": position, "first_position": position, "turn_id": turn_id}
    row = sql.ANSWER.one(connection, parameters)
    if row is not None and row.position is None:
        archives.restore(connection, user_id, conversation_id)
        row = sql.ANSWER.one(connection, parameters)
    if row is None or not row.tool_calls:
        raise ConversationAdvanced
    return row
