"""Conversations as documents: JSON that is imported again, and Markdown that holds together whatever was said."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from markdown_it import MarkdownIt
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.errors import Conflict
from app.models.columns import new_id
from app.services import exports
from tests.api.rows import add_messages, owned_rows
from tests.factories import Account, make_conversation

Message = dict[str, Any]
Tell = Callable[..., UUID]

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


@pytest.fixture
def tell(engine: Engine, user: Account) -> Tell:
    """A function that makes a conversation of these messages; keyword arguments are its columns."""

    def make(messages: list[Message], account: Account = user, **columns: Any) -> UUID:
        count = len(messages)
        conversation = make_conversation(
            engine, account, **{"message_count": count, "next_position": count + 1, **columns}
        )
        with engine.begin() as connection:
            for position, message in enumerate(messages, 1):
                connection.execute(
                    text(
                        "INSERT INTO messages (user_id, conversation_id, position, role, content, tool_calls,"
                        " tool_call_id, metadata, turn_id, created_at) VALUES (:user_id, :conversation_id, :position,"
                        " :role, :content, :tool_calls, :tool_call_id, :metadata, :turn_id, :created_at)"
                    ),
                    {
                        "user_id": account.id,
                        "conversation_id": conversation,
                        "position": position,
                        "role": message["role"],
                        "content": message["content"],
                        "tool_calls": json.dumps(message["tool_calls"]) if "tool_calls" in message else None,
                        "tool_call_id": message.get("tool_call_id"),
                        "metadata": json.dumps(message.get("metadata", {})),
                        "turn_id": new_id(),
                        "created_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=position),
                    },
                )
        return conversation

    return make


def export(client: FlaskClient, account: Account, conversation: UUID | str, wanted: str = "json") -> TestResponse:
    return client.get(
        f"/api/conversations/{conversation}/export", query_string={"format": wanted}, headers=account.headers
    )


def import_(client: FlaskClient, account: Account, document: Any) -> TestResponse:
    raw = document if isinstance(document, bytes) else orjson.dumps(document)
    return client.post("/api/conversations/import", data=raw, content_type="application/json", headers=account.headers)


def without_ids_and_times(document: Any) -> Any:
    for each in (document, document["conversation"], *document["messages"]):
        for name in ("exported_at", "id", "turn_id", "created_at", "updated_at"):
            each.pop(name, None)
    return document


def test_a_document_says_everything(client: FlaskClient, user: Account, tell: Tell) -> None:
    conversation = tell(EVERYTHING, title="Ein Ölpreis: 5 € / l?", meta={"ticket": 4711}, status="archived")
    response = export(client, user, conversation)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["Content-Disposition"] == 'attachment; filename="conversation-Ein-Olpreis-5-l.json"'
    document = response.json
    assert list(document) == ["version", "exported_at", "conversation", "messages"]
    assert document["version"] == 1
    assert datetime.fromisoformat(document["exported_at"]).tzinfo is not None
    about = document["conversation"]
    assert {name: about[name] for name in ("id", "title", "status", "metadata", "message_count", "project_id")} == {
        "id": str(conversation),
        "title": "Ein Ölpreis: 5 € / l?",
        "status": "archived",
        "metadata": {"ticket": 4711},
        "message_count": 6,
        "project_id": None,
    }
    for position, (told, message) in enumerate(zip(document["messages"], EVERYTHING, strict=True), 1):
        assert told.pop("turn_id")
        assert told.pop("created_at") == f"2026-01-01T00:00:0{position}+00:00"
        assert told == {"tool_calls": None, "tool_call_id": None, "metadata": {}, "position": position, **message}


def test_json_is_what_comes_without_a_word(client: FlaskClient, user: Account, tell: Tell) -> None:
    conversation = tell([])
    response = client.get(f"/api/conversations/{conversation}/export", headers=user.headers)
    assert response.json["messages"] == []
    assert response.headers["Content-Disposition"] == f'attachment; filename="conversation-{conversation}.json"'


def test_out_and_in_and_out_again_is_the_same(client: FlaskClient, user: Account, tell: Tell) -> None:
    first = export(client, user, tell(EVERYTHING, title="Title", meta={"a": {"b": [1, None]}}, status="archived"))
    made = import_(client, user, first.data)
    assert made.status_code == 201, made.json
    assert made.json["id"] != first.json["conversation"]["id"]
    assert made.headers["Location"] == f"/api/conversations/{made.json['id']}"
    assert client.get(made.headers["Location"], headers=user.headers).json == made.json
    second = export(client, user, made.json["id"])
    times = [[message["created_at"] for message in each.json["messages"]] for each in (first, second)]
    assert times[0] == times[1]
    assert without_ids_and_times(second.json) == without_ids_and_times(first.json)


def test_what_was_imported_goes_on_where_it_ended(
    client: FlaskClient, engine: Engine, user: Account, tell: Tell
) -> None:
    made = import_(client, user, export(client, user, tell(EVERYTHING[:2], title="T")).data).json
    assert (made["message_count"], made["preview"][:9], made["title"]) == (2, 'A "quote"', "T")
    with engine.connect() as connection:
        row = connection.execute(
            text("SELECT next_position, running_attempt, project_id, storage FROM conversations WHERE id = :id"),
            {"id": made["id"]},
        ).one()
    assert tuple(row) == (3, None, None, "live")


def test_an_empty_conversation_goes_out_and_in(client: FlaskClient, user: Account, tell: Tell) -> None:
    first = export(client, user, tell([]))
    made = import_(client, user, first.data)
    assert made.status_code == 201
    assert without_ids_and_times(export(client, user, made.json["id"]).json) == without_ids_and_times(first.json)


def test_a_document_made_by_hand_needs_little(client: FlaskClient, user: Account) -> None:
    before = datetime.now(UTC)
    made = import_(
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
    assert made.status_code == 201, made.json
    messages = export(client, user, made.json["id"]).json["messages"]
    assert [message["position"] for message in messages] == [1, 2, 3]
    times = [datetime.fromisoformat(message["created_at"]) for message in messages]
    assert before <= times[0] <= datetime.now(UTC)
    assert before <= times[1] <= datetime.now(UTC)  # it was still to come
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
def test_a_bad_document_is_refused_by_field_and_nothing_is_stored(
    client: FlaskClient, engine: Engine, user: Account, path: tuple[Any, ...], value: Any, field: str
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
def test_what_is_no_document_is_refused(
    client: FlaskClient, engine: Engine, user: Account, raw: bytes, status: int
) -> None:
    before = owned_rows(engine, user)
    assert import_(client, user, raw).status_code == status
    assert owned_rows(engine, user) == before


def test_a_part_of_a_document_is_not_taken_for_one(
    client: FlaskClient, engine: Engine, user: Account, tell: Tell
) -> None:
    whole = export(client, user, tell(EVERYTHING)).data
    before = owned_rows(engine, user)
    for end in range(0, len(whole) - 2, 7):
        assert import_(client, user, whole[:end]).status_code == 400
    assert owned_rows(engine, user) == before


def test_only_the_owner_exports(client: FlaskClient, user: Account, other_user: Account, tell: Tell) -> None:
    conversation = tell(EVERYTHING)
    for account, target in ((other_user, conversation), (user, new_id())):
        for wanted in ("json", "markdown"):
            refused = export(client, account, target, wanted)
            assert (refused.status_code, refused.json["code"]) == (404, "not_found")
    assert export(client, user, conversation, "pdf").status_code == 400
    assert client.get(f"/api/conversations/{conversation}/export").status_code == 401
    assert client.post("/api/conversations/import", json={}).status_code == 401


@pytest.mark.parametrize("wanted", ["json", "markdown"])
def test_a_long_conversation_goes_out_in_pieces_and_holds_no_connection(
    flask_app: Flask, engine: Engine, user: Account, wanted: str
) -> None:
    conversation = make_conversation(engine, user)
    add_messages(engine, user, conversation, 1001)
    with flask_app.app_context():
        found = exports.open_export(user.id, conversation)
    pieces = []
    for piece in exports.FORMATS[wanted].write(found):
        assert engine.pool.checkedout() == 0
        pieces.append(piece)
    assert len(pieces) == 7  # 200 messages each, and the end
    whole = b"".join(pieces)
    if wanted == "json":
        assert [int(message["content"]) for message in orjson.loads(whole)["messages"]] == list(range(1, 1002))
    else:
        assert [int(n) for n in re.findall(rb"^## (\d+)\.", whole, re.MULTILINE)] == list(range(1, 1002))


def test_a_piece_is_bounded_in_bytes(flask_app: Flask, engine: Engine, user: Account, tell: Tell) -> None:
    conversation = tell([{"role": "assistant", "content": "x" * 900_000}] * 5)
    with flask_app.app_context():
        pieces = list(exports.as_json(exports.open_export(user.id, conversation)))
    assert [len(piece) // 900_000 for piece in pieces] == [2, 2, 1, 0]
    assert len(orjson.loads(b"".join(pieces))["messages"]) == 5


def test_what_comes_later_is_left_out(flask_app: Flask, engine: Engine, user: Account) -> None:
    conversation = make_conversation(engine, user)
    add_messages(engine, user, conversation, 300)
    with flask_app.app_context():
        pieces = exports.as_json(exports.open_export(user.id, conversation))
    first = next(pieces)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO messages (user_id, conversation_id, position, role, content)"
                " VALUES (:u, :c, 301, 'user', 'later')"
            ),
            {"u": user.id, "c": conversation},
        )
    document = orjson.loads(first + b"".join(pieces))
    assert len(document["messages"]) == document["conversation"]["message_count"] == 300


@pytest.mark.parametrize("wanted", ["json", "markdown"])
def test_what_goes_away_meanwhile_breaks_the_document_off(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: Account, wanted: str
) -> None:
    conversation = make_conversation(engine, user)
    add_messages(engine, user, conversation, 300)
    with flask_app.app_context():
        pieces = exports.FORMATS[wanted].write(exports.open_export(user.id, conversation))
    told = next(pieces)
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 204
    with pytest.raises(Conflict):
        told += next(pieces)
    if wanted == "json":
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(told)
    else:
        assert not told.endswith(b"End of the conversation.\n")


def test_messages_that_are_gone_from_the_start_are_an_error(client: FlaskClient, engine: Engine, user: Account) -> None:
    conversation = make_conversation(engine, user, message_count=2, next_position=3)
    for wanted in ("json", "markdown"):
        assert export(client, user, conversation, wanted).status_code == 409


def test_markdown_is_readable(client: FlaskClient, user: Account, tell: Tell) -> None:
    conversation = tell(EVERYTHING, title="A  title\n# of two lines")
    response = export(client, user, conversation, "markdown")
    assert response.content_type == "text/markdown; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="conversation-A-title-of-two-lines.md"'
    shown = response.text
    assert shown.startswith("# A title # of two lines\n\n")
    assert shown.endswith("End of the conversation.\n")
    assert "```python\nprint(1)\n```\nDone." in shown
    assert '````\n{"ok": ```true```}\n````' in shown
    assert "*The answer ends here: failed.*" in shown
    assert headings(shown) == [
        "A title # of two lines",
        *(
            f"{n}. {message['role'].capitalize()} · 2026-01-01 00:00:0{n} UTC"
            for n, message in enumerate(EVERYTHING, 1)
        ),
    ]


def headings(shown: str) -> list[str]:
    """The headings that stand by themselves, as CommonMark reads the text."""
    tokens = MarkdownIt("commonmark").parse(shown)
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open" and token.level == 0]
