"""Import of a conversation from a document in the format of an export."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row

from app.ids import new_id
from app.repositories import exports as sql
from app.services.search_requests import request_index
from app.services.stored_bytes import check_limit
from app.services.titles import preview_of
from app.services.transactions import autocommit_session


def import_conversation(
    user_id: UUID,
    *,
    title: str | None,
    status: str,
    meta: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    max_bytes: int,
) -> Row[Any]:
    """Create a conversation of the user with these messages at positions 1, 2, ..., in one transaction.

    Each message has role, content, tool_calls, tool_call_id, meta and created_at, of which all but the role may be
    None. A time that is missing or in the future becomes the current one. The conversation has no project and no turns,
    and counts as just updated. `max_bytes` is USER_MAX_BYTES. Raises `StorageLimitReached`.
    """
    now = datetime.now(UTC)
    parameters = {
        "user_id": user_id,
        "conversation_id": new_id(),
        "title": title,
        "status": status,
        "metadata": orjson.dumps(meta).decode(),
        "preview": preview_of(messages[-1]["content"]) if messages else None,
        "count": len(messages),
        "messages": orjson.dumps(
            [
                {
                    "position": position,
                    "role": message["role"],
                    "content": message["content"],
                    "tool_calls": message["tool_calls"],
                    "tool_call_id": message["tool_call_id"],
                    "metadata": message["meta"],
                    "created_at": message["created_at"] or now,
                }
                for position, message in enumerate(messages, 1)
            ]
        ).decode(),
    }
    size = sum(len((message["content"] or "").encode()) for message in messages)
    with autocommit_session() as session:
        check_limit(session.connection(), user_id, max_bytes, adding=size)
        row = sql.IMPORT.one(session.connection(), parameters)
    assert row is not None  # noqa: S101  # an INSERT returns its row
    request_index(user_id, row.id)
    return row
