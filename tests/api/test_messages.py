"""The list of a conversation's messages, in both orders."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, event, text

from app.ids import new_id
from tests.api.rows import add_messages, walk
from tests.factories import LoggedInUser, make_conversation


@pytest.fixture
def conversation(engine: Engine, user: LoggedInUser) -> UUID:
    return make_conversation(engine, user)


@pytest.mark.parametrize(("order", "expected"), [("asc", range(1, 251)), ("desc", range(250, 0, -1))])
@pytest.mark.parametrize("limit", [33, 50, 100])
def test_pages_in_both_orders_have_each_message_once(
    client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID, order: str, expected: range, limit: int
) -> None:
    add_messages(engine, user, conversation, 250)
    items = walk(client, user, f"/api/conversations/{conversation}/messages", order=order, limit=limit)
    assert [item["position"] for item in items] == list(expected)


def test_message_fields(client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID) -> None:
    turn = new_id()
    calls = '[{"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": "{}"}}]'
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls, tool_call_id,"
                " metadata, turn_id) VALUES"
                " (:user_id, :conversation_id, 1, 'user', 'Hi', NULL, NULL, '{}', :turn_id),"
                " (:user_id, :conversation_id, 2, 'assistant', NULL, :calls, NULL, '{}', :turn_id),"
                " (:user_id, :conversation_id, 3, 'tool', '', NULL, 'c1', '{\"cut\": true}', :turn_id)"
            ),
            {"user_id": user.id, "conversation_id": conversation, "turn_id": turn, "calls": calls},
        )
    page = client.get(f"/api/conversations/{conversation}/messages", headers=user.headers).json
    assert page["next_cursor"] is None
    for item in page["items"]:
        assert datetime.fromisoformat(item.pop("created_at")).tzinfo is not None
    call = {"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": "{}"}}
    plain = {"tool_calls": None, "tool_call_id": None, "metadata": {}, "turn_id": str(turn)}
    assert page["items"] == [
        {**plain, "id": f"{conversation}.1", "position": 1, "role": "user", "content": "Hi"},
        {
            **plain,
            "id": f"{conversation}.2",
            "position": 2,
            "role": "assistant",
            "content": None,
            "tool_calls": [call],
        },
        {
            **plain,
            "id": f"{conversation}.3",
            "position": 3,
            "role": "tool",
            "content": "",
            "tool_call_id": "c1",
            "metadata": {"cut": True},
        },
    ]


def test_empty_conversation_is_empty_list_and_unknown_is_404(
    client: FlaskClient, user: LoggedInUser, conversation: UUID
) -> None:
    page = client.get(f"/api/conversations/{conversation}/messages", headers=user.headers)
    assert page.json == {"items": [], "next_cursor": None}
    unknown = client.get(f"/api/conversations/{new_id()}/messages", headers=user.headers)
    assert (unknown.status_code, unknown.json["code"]) == (404, "not_found")


def test_default_order_is_oldest_first(
    client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID
) -> None:
    add_messages(engine, user, conversation, 30)
    page = client.get(f"/api/conversations/{conversation}/messages", headers=user.headers).json
    assert [item["position"] for item in page["items"]] == list(range(1, 21))


def test_new_messages_do_not_shift_pages(
    client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID
) -> None:
    add_messages(engine, user, conversation, 10)
    url = f"/api/conversations/{conversation}/messages"
    first = client.get(url, query_string={"order": "desc", "limit": 4}, headers=user.headers).json
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO messages (user_id, conversation_id, position, role, content)"
                " VALUES (:user_id, :conversation_id, 11, 'user', 'new')"
            ),
            {"user_id": user.id, "conversation_id": conversation},
        )
    rest = walk(client, user, url, order="desc", limit=4, cursor=first["next_cursor"])
    assert [item["position"] for item in first["items"] + rest] == list(range(10, 0, -1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order", "newest"),
        ("order", ""),
        ("limit", "0"),
        ("limit", "101"),
        ("cursor", "x"),
        ("cursor", "WyJjb252ZXJzYXRpb25zLjEiLDFd"),
        ("before", "3"),
    ],
)
def test_invalid_query_is_400_with_field(
    client: FlaskClient, user: LoggedInUser, conversation: UUID, name: str, value: str
) -> None:
    url = f"/api/conversations/{conversation}/messages"
    refused = client.get(url, query_string={name: value}, headers=user.headers)
    assert refused.status_code == 400
    assert list(refused.json["errors"]) == [name]


def test_page_takes_one_statement(client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID) -> None:
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        client.get(f"/api/conversations/{conversation}/messages", headers=user.headers)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in seen if "/* messages.page" in statement]) == 1
    assert len([statement for statement in seen if "conversations" in statement]) == 1
