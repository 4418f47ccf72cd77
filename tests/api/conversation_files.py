"""Conversations with messages of every kind, and their export and import."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from tests.factories import LoggedInUser, make_conversation_with

Message = dict[str, Any]
StoreConversation = Callable[..., UUID]

CALLS = [{"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": '{"title": "`x`"}'}}]
EVERYTHING: list[Message] = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": 'A "quote", \\ a backslash,\r\na tab\t, é, 東京, 😀, \u2028 and \x01.'},
    {"role": "assistant", "content": None, "tool_calls": CALLS},
    {"role": "tool", "content": '{"ok": ```true```}', "tool_call_id": "c1", "metadata": {"cut": True}},
    {
        "role": "assistant",
        "content": "```python\nprint(1)\n```\nDone.",
        "metadata": {"partial": "failed", "n": [1, 2.5]},
    },
    {"role": "assistant", "content": ""},
]


def insert_messages(engine: Engine, account: LoggedInUser, messages: list[Message], **columns: Any) -> UUID:
    """Insert a conversation with messages, one a second, and return its id; keyword arguments are its columns."""
    return make_conversation_with(
        engine, account, messages, begin=datetime(2026, 1, 1, tzinfo=UTC), step=timedelta(seconds=1), **columns
    )


def export(client: FlaskClient, account: LoggedInUser, conversation: UUID | str, format_: str = "json") -> TestResponse:
    return client.get(
        f"/api/conversations/{conversation}/export", query_string={"format": format_}, headers=account.headers
    )


def import_(client: FlaskClient, account: LoggedInUser, document: Any) -> TestResponse:
    raw = document if isinstance(document, bytes) else orjson.dumps(document)
    return client.post("/api/conversations/import", data=raw, content_type="application/json", headers=account.headers)


def without_ids_and_times(document: Any) -> Any:
    for part in (document, document["conversation"], *document["messages"]):
        for name in ("exported_at", "id", "turn_id", "created_at", "updated_at"):
            part.pop(name, None)
    return document
