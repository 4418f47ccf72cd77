"""Export of conversations as JSON, which can be imported, and as Markdown."""

import re
from datetime import datetime
from itertools import pairwise
from urllib.parse import unquote

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from markdown_it import MarkdownIt
from sqlalchemy import Engine, text

from app.errors import Conflict
from app.ids import new_id
from app.services import exports
from tests.api.conversation_files import EVERYTHING, StoreConversation, export
from tests.api.rows import add_messages
from tests.factories import LoggedInUser, make_conversation


def test_json_document_is_complete(
    client: FlaskClient, user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    conversation = store_conversation(
        EVERYTHING, title="Ein Ölpreis: 5 € / l?", meta={"ticket": 4711}, status="archived"
    )
    response = export(client, user, conversation)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert response.headers["Content-Disposition"] == (
        'attachment; filename="conversation-Ein-Olpreis-5-l.json"; '
        "filename*=UTF-8''conversation-Ein-%C3%96lpreis-5-l.json"
    )
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
    for position, (exported, message) in enumerate(zip(document["messages"], EVERYTHING, strict=True), 1):
        assert exported.pop("turn_id")
        assert exported.pop("created_at") == f"2026-01-01T00:00:0{position}+00:00"
        assert exported == {"tool_calls": None, "tool_call_id": None, "metadata": {}, "position": position, **message}


def test_default_format_is_json(client: FlaskClient, user: LoggedInUser, store_conversation: StoreConversation) -> None:
    conversation = store_conversation([])
    response = client.get(f"/api/conversations/{conversation}/export", headers=user.headers)
    assert response.json["messages"] == []
    assert response.headers["Content-Disposition"] == f'attachment; filename="conversation-{conversation}.json"'


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("机器学习", "conversation-机器学习"),
        ("Приве́т, мир!", "conversation-Приве́т-мир"),
        ("สวัสดี", "conversation-สวัสดี"),
        ("I\u0302le", "conversation-Île"),
        ('a"b\\c/d\r\nSet-Cookie: x', "conversation-a-b-c-d-Set-Cookie-x"),
        ("../../etc/passwd", "conversation-etc-passwd"),
        ("語" * 200, "conversation-" + "語" * 50),
    ],
)
def test_file_name_has_title_in_any_script(
    client: FlaskClient, user: LoggedInUser, store_conversation: StoreConversation, title: str, name: str
) -> None:
    header = export(client, user, store_conversation([], title=title)).headers["Content-Disposition"]
    assert header.isascii()
    plain, _, encoded = header.partition("; filename*=UTF-8''")
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9._-]+\.json"', plain)
    assert unquote(encoded) == f"{name}.json" or plain == f'attachment; filename="{name}.json"'


def test_export_of_other_users_conversation_is_404(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    conversation = store_conversation(EVERYTHING)
    for account, target in ((other_user, conversation), (user, new_id())):
        for format_ in ("json", "markdown"):
            refused = export(client, account, target, format_)
            assert (refused.status_code, refused.json["code"]) == (404, "not_found")
    assert export(client, user, conversation, "pdf").status_code == 400
    assert client.get(f"/api/conversations/{conversation}/export").status_code == 401
    assert client.post("/api/conversations/import", json={}).status_code == 401


@pytest.mark.parametrize("format_", ["json", "markdown"])
def test_long_export_is_streamed_without_connection(
    flask_app: Flask, engine: Engine, user: LoggedInUser, format_: str
) -> None:
    conversation = make_conversation(engine, user)
    add_messages(engine, user, conversation, 1001)
    with flask_app.app_context():
        opened = exports.open_export(user.id, conversation)
    pieces = []
    for piece in exports.FORMATS[format_].write(opened):
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of QueuePool
        pieces.append(piece)
    assert len(pieces) == 7  # 200 messages each, and the end
    complete = b"".join(pieces)
    if format_ == "json":
        assert [int(message["content"]) for message in orjson.loads(complete)["messages"]] == list(range(1, 1002))
    else:
        assert [int(n) for n in re.findall(rb"^## (\d+)\.", complete, re.MULTILINE)] == list(range(1, 1002))


def test_chunk_size_is_bounded(
    flask_app: Flask, engine: Engine, user: LoggedInUser, store_conversation: StoreConversation
) -> None:
    conversation = store_conversation([{"role": "assistant", "content": "x" * 900_000}] * 5)
    with flask_app.app_context():
        pieces = list(exports.as_json(exports.open_export(user.id, conversation)))
    assert [len(piece) // 900_000 for piece in pieces] == [2, 2, 1, 0]
    assert len(orjson.loads(b"".join(pieces))["messages"]) == 5


def test_message_added_during_export_is_omitted(flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
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


@pytest.mark.parametrize("format_", ["json", "markdown"])
def test_deletion_during_export_truncates_document(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser, format_: str
) -> None:
    conversation = make_conversation(engine, user)
    add_messages(engine, user, conversation, 300)
    with flask_app.app_context():
        pieces = exports.FORMATS[format_].write(exports.open_export(user.id, conversation))
    exported = next(pieces)
    assert client.delete(f"/api/conversations/{conversation}", headers=user.headers).status_code == 204
    with pytest.raises(Conflict):
        exported += next(pieces)
    if format_ == "json":
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(exported)
    else:
        assert not exported.endswith(b"End of the conversation.\n")


def test_export_with_missing_messages_is_error(client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_conversation(engine, user, message_count=2, next_position=3)
    for format_ in ("json", "markdown"):
        assert export(client, user, conversation, format_).status_code == 409


def test_markdown_document(client: FlaskClient, user: LoggedInUser, store_conversation: StoreConversation) -> None:
    conversation = store_conversation(EVERYTHING, title="A  title\n# of two lines")
    response = export(client, user, conversation, "markdown")
    assert response.content_type == "text/markdown; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="conversation-A-title-of-two-lines.md"'
    shown = response.text
    assert shown.startswith("# A title # of two lines\n\n")
    assert shown.endswith("End of the conversation.\n")
    assert "> ```python\n> print(1)\n> ```\n> Done." in shown
    assert '> ````\n> {"ok": ```true```}\n> ````' in shown
    assert "*The answer ends here: failed.*" in shown
    assert headings(shown) == [
        "A title # of two lines",
        *(
            f"{n}. {message['role'].capitalize()} · 2026-01-01 00:00:0{n} UTC"
            for n, message in enumerate(EVERYTHING, 1)
        ),
    ]


def headings(shown: str) -> list[str]:
    """Return the top-level headings of a CommonMark text."""
    tokens = MarkdownIt("commonmark").parse(shown)
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open" and token.level == 0]
