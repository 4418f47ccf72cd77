"""Import of conversations from exported JSON."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from tests.api.conversation_files import EVERYTHING, StoreConversation, export, import_, without_ids_and_times
from tests.api.rows import owned_rows
from tests.factories import LoggedInUser


def test_export_import_export_is_identical(
    client: FlaskClient, user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    first = export(
        client, user, store_conversation(EVERYTHING, title="Title", meta={"a": {"b": [1, None]}}, status="archived")
    )
    imported = import_(client, user, first.data)
    assert imported.status_code == 201, imported.json
    assert imported.json["id"] != first.json["conversation"]["id"]
    assert imported.headers["Location"] == f"/api/conversations/{imported.json['id']}"
    assert client.get(imported.headers["Location"], headers=user.headers).json == imported.json
    second = export(client, user, imported.json["id"])
    times = [[message["created_at"] for message in exported.json["messages"]] for exported in (first, second)]
    assert times[0] == times[1]
    assert without_ids_and_times(second.json) == without_ids_and_times(first.json)


def test_imported_conversation_can_be_continued(
    client: FlaskClient, engine: Engine, user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    imported = import_(client, user, export(client, user, store_conversation(EVERYTHING[:2], title="T")).data).json
    assert (imported["message_count"], imported["preview"][:9], imported["title"]) == (2, 'A "quote"', "T")
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT next_position, running_attempt, project_id, storage FROM conversations WHERE id = :id"),
            {"id": imported["id"]},
        ).one()
    assert tuple(row) == (3, None, None, "live")


def test_empty_conversation_is_exported_and_imported(
    client: FlaskClient, user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    first = export(client, user, store_conversation([]))
    imported = import_(client, user, first.data)
    assert imported.status_code == 201
    assert without_ids_and_times(export(client, user, imported.json["id"]).json) == without_ids_and_times(first.json)


def test_minimal_document_is_imported(client: FlaskClient, user: LoggedInUser) -> None:
    before = datetime.now(UTC)
    imported = import_(
        client,
        user,
        {
            "version": 1,
            "conversation": {},
            "messages": [
                {"role": "user", "content": "a", "position": 3},
                {"role": "assistant", "created_at": "2999-01-01T00:00:00Z", "position": 7},
                {"role": "user", "content": "b", "created_at": "2020-01-01T00:00:00+05:30"},
            ],
        },
    )
    assert imported.status_code == 201, imported.json
    messages = export(client, user, imported.json["id"]).json["messages"]
    assert [message["position"] for message in messages] == [1, 2, 3]
    times = [datetime.fromisoformat(message["created_at"]) for message in messages]
    assert before <= times[0] <= datetime.now(UTC)
    assert before <= times[1] <= datetime.now(UTC)  # times in the future are replaced
    assert times[2] == datetime(2019, 12, 31, 18, 30, tzinfo=UTC)


MESSAGE = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("version",), 2, "version"),
        (("version",), "1", "version"),
        (("version",), ..., "version"),
        (("conversation",), ..., "conversation"),
        (("conversation",), [], "conversation"),
        (("conversation", "title"), "x" * 201, "conversation.title"),
        (("conversation", "status"), "deleted", "conversation.status"),
        (("conversation", "legal_hold"), True, "conversation.legal_hold"),
        (("conversation", "user_id"), "x", "conversation.user_id"),
        (("conversation", "metadata"), {"a": "x" * 17_000}, "conversation.metadata"),
        (("messages",), ..., "messages"),
        (("messages",), {}, "messages"),
        (("messages",), [MESSAGE] * 20_001, "messages"),
        (("messages", 1), "x", "messages.1"),
        (("messages", 1, "role"), "admin", "messages.1.role"),
        (("messages", 1, "role"), ..., "messages.1.role"),
        (("messages", 1, "content"), "", "messages.1.content"),
        (("messages", 1, "content"), None, "messages.1.content"),
        (("messages", 1, "content"), " \n", "messages.1.content"),
        (("messages", 1, "content"), "\u200b\u3164\U000e0001", "messages.1.content"),
        (("messages", 1, "content"), "x" * 10_001, "messages.1.content"),
        (("messages", 1, "content"), "a\0b", "messages.1.content"),
        (("messages", 1, "content"), 5, "messages.1.content"),
        (("messages", 1, "position"), 1, "messages.1.position"),
        (("messages", 1, "position"), 0, "messages.1.position"),
        (("messages", 1, "position"), "2", "messages.1.position"),
        (("messages", 1, "created_at"), "2026-01-01T00:00:00", "messages.1.created_at"),
        (("messages", 1, "created_at"), "0001-01-01T00:00:00+14:00", "messages.1.created_at"),
        (("messages", 1, "created_at"), 5, "messages.1.created_at"),
        (("messages", 1, "tool_calls"), "x", "messages.1.tool_calls"),
        (("messages", 1, "tool_calls"), [1], "messages.1.tool_calls.0"),
        (("messages", 1, "tool_calls"), [{"a": 1e308}], "messages.1.tool_calls"),
        (("messages", 1, "tool_call_id"), "x" * 201, "messages.1.tool_call_id"),
        (("messages", 1, "metadata"), [], "messages.1.metadata"),
        (("messages", 1, "metadata"), None, "messages.1.metadata"),
        (("messages", 1, "metadata"), {"a": 2**70}, "messages.1.metadata"),
        (("messages", 1, "user_id"), "x", "messages.1.user_id"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_import_invalid_document_is_400_and_stores_nothing(
    client: FlaskClient, engine: Engine, user: LoggedInUser, path: tuple[Any, ...], value: Any, field: str
) -> None:
    document: Any = {
        "version": 1,
        "conversation": {"title": "x"},
        "messages": [{**MESSAGE, "position": 1}, {**MESSAGE, "position": 2}],
    }
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    before = owned_rows(engine, user)
    refused = import_(client, user, json.dumps(document).encode())
    assert (refused.status_code, refused.json["code"]) == (400, "invalid_input")
    assert list(refused.json["errors"]) == [field]
    assert owned_rows(engine, user) == before


@pytest.mark.parametrize("content", ["", " \n", "\u2800\u200b", "x" * 10_001])
def test_import_refuses_user_content_as_chat_does(client: FlaskClient, user: LoggedInUser, content: str) -> None:
    document = {"version": 1, "conversation": {}, "messages": [MESSAGE, {"role": "user", "content": content}]}
    imported = import_(client, user, json.dumps(document).encode())
    chat = client.post("/api/chat", json={"message": content}, headers=user.headers)
    assert (imported.status_code, chat.status_code) == (400, 400)
    assert imported.json["errors"]["messages.1.content"] == (chat.json or {})["errors"]["message"]
    assert {key: value for key, value in imported.json.items() if key not in ("errors", "request_id")} == {
        key: value for key, value in (chat.json or {}).items() if key not in ("errors", "request_id")
    }


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b'{"version": 1, "conversation": {}, "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (b'{"a": "\xff"}', 400),
        (b'{"a": "' + b"x" * 1_100_000 + b'"}', 413),
    ],
)
def test_import_other_body_is_400(
    client: FlaskClient, engine: Engine, user: LoggedInUser, raw: bytes, status: int
) -> None:
    before = owned_rows(engine, user)
    assert import_(client, user, raw).status_code == status
    assert owned_rows(engine, user) == before


def test_import_truncated_document_is_400(
    client: FlaskClient, engine: Engine, user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    complete = export(client, user, store_conversation(EVERYTHING)).data
    before = owned_rows(engine, user)
    for end in range(0, len(complete) - 2, 7):
        assert import_(client, user, complete[:end]).status_code == 400
    assert owned_rows(engine, user) == before
