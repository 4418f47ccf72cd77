"""A conversation from the document that an export wrote, or that somebody made by hand in its shape."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row

from app.models.columns import new_id
from app.repositories import exports as sql
from app.services.search_requests import request_index
from app.services.titles import preview_of
from app.services.transactions import statements


def import_conversation(
    user_id: UUID, *, title: str | None, status: str, meta: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]
) -> Row[Any]:
    """A new conversation of the user's with these messages, placed 1, 2, ...; both are stored, or neither.

    Each message has role, content, tool_calls, tool_call_id, meta and created_at, of which all but the role may be
    None; one without a time, or with one to come, gets the present. It belongs to no project and to no turn, and is
    listed as just changed: it is new here.
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
    with statements() as session:
        row = sql.IMPORT.one(session.connection(), parameters)
    assert row is not None  # noqa: S101  # an INSERT that does not raise returns its row
    request_index(user_id, row.id)
    return row
