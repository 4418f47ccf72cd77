"""JSON views of a turn and its messages, shared by the JSON answer, the event stream and the read endpoints."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from app.enums import TurnStatus
from app.turns.stream import RunningTurn


def message_id(conversation_id: UUID, position: int) -> str:
    """Return a message's public id, which consists of its conversation and position."""
    return f"{conversation_id}.{position}"


def message_view(
    conversation_id: UUID, position: int, turn_id: UUID | None, created_at: datetime, message: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the view of a message; `message` has role and content, and may have tool_calls, tool_call_id, metadata."""
    return {
        "id": message_id(conversation_id, position),
        "position": position,
        "role": message["role"],
        "content": message["content"],
        "tool_calls": message.get("tool_calls"),
        "tool_call_id": message.get("tool_call_id"),
        "metadata": message.get("metadata") or {},
        "turn_id": turn_id,
        "created_at": created_at,
    }


def turn_view(row: Row[Any]) -> dict[str, Any]:
    """Return the view of a turn from its row."""
    return {
        "id": row.id,
        "conversation_id": row.conversation_id,
        "status": row.status,
        "position": row.position,
        "answer_position": row.answer_position,
        "provider": row.provider,
        "model": row.model,
        "finish_reason": row.finish_reason,
        "usage": {"input_tokens": row.input_tokens, "output_tokens": row.output_tokens},
        "error": row.error,
        "started_at": row.started_at,
        "first_token_at": row.first_token_at,
        "finished_at": row.finished_at,
    }


def running_view(turn: RunningTurn | Row[Any]) -> dict[str, Any]:
    """Return the view of a turn while it runs; `turn` may have ended since."""
    return {
        "id": turn.id,
        "conversation_id": turn.conversation_id,
        "status": TurnStatus.RUNNING.value,
        "position": turn.position,
        "provider": turn.provider,
        "model": turn.model,
        "started_at": turn.started_at,
    }


def started_view(turn: RunningTurn | Row[Any], title: str | None) -> dict[str, Any]:
    """Return the data of `turn.started` and `turn.restarted`; `title` is the conversation's."""
    return {"turn": running_view(turn), "conversation": {"id": turn.conversation_id, "title": title}}
