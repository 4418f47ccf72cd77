"""`POST /api/chat`: answers as JSON and as a stream, provider failures, invalid requests."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import LoggedInUser, make_conversation
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def test_chat_stores_message_and_answer(chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows) -> None:
    upstream.script = scripts.words(3)
    body = chat("What   is\nnew?").get_json()
    assert body["message"]["content"] == "word0 word1 word2 "
    assert body["turn"]["status"] == "completed"
    assert body["usage"]["output_tokens"] == body["turn"]["usage"]["output_tokens"]
    assert body["conversation"]["title"] == "What is new?"
    messages = rows("SELECT position, role, content FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [tuple(row) for row in messages] == [(1, "user", "What   is\nnew?"), (2, "assistant", "word0 word1 word2 ")]
    assert body["message"]["id"] == f"{body['conversation']['id']}.2"


def test_long_first_message_is_cut_for_title(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.words(1)
    assert chat("a" * 51).get_json()["conversation"]["title"] == "a" * 50 + "..."
    assert chat("a" * 50).get_json()["conversation"]["title"] == "a" * 50


def test_provider_receives_history(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.echo()
    conversation = chat("one").get_json()["conversation"]["id"]
    body = chat("two", conversation_id=conversation).get_json()
    assert body["message"]["content"] == "3 messages; last: two"
    assert body["message"]["position"] == 4


def test_stream_has_events_in_order(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.words(3)
    response = chat("hello", stream=True)
    assert response.content_type == "text/event-stream; charset=utf-8"
    events = events_of(response)
    assert [sequence for sequence, _, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind, _ in events]
    assert kinds == ["turn.started", *["message.delta"] * 3, "message.completed", "turn.completed"]
    text = "".join(data["text"] for _, kind, data in events if kind == "message.delta")
    assert text == events[-2][2]["message"]["content"] == "word0 word1 word2 "


@pytest.mark.parametrize(
    ("body", "accept", "content_type"),
    [
        ({}, "text/event-stream", "text/event-stream"),
        ({}, "Text/Event-Stream; charset=utf-8", "text/event-stream"),
        ({}, "text/event-stream, */*", "text/event-stream"),
        ({}, "application/json, text/event-stream", "text/event-stream"),
        ({}, "application/json;q=0, text/event-stream;q=0.1", "text/event-stream"),
        ({"stream": None}, "text/event-stream", "text/event-stream"),
        ({"stream": True}, "application/json", "text/event-stream"),
        ({"stream": True}, "text/event-stream;q=0", "text/event-stream"),
        ({"stream": False}, "text/event-stream", "application/json"),
        ({}, "text/event-stream;q=0", "application/json"),
        ({}, "text/event-stream;q=0.0, */*", "application/json"),
        ({}, "application/json, text/event-stream;q=0.5", "application/json"),
        ({}, "*/*", "application/json"),
        ({}, "text/*", "application/json"),
        ({}, "text/html", "application/json"),
        ({}, "", "application/json"),
    ],
)
def test_body_then_accept_header_select_stream(
    chat: Chat, body: dict[str, Any], accept: str, content_type: str
) -> None:
    response = chat(headers={"Accept": accept}, **body)
    assert response.status_code == 200
    assert response.mimetype == content_type


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (scripts.api_error(500), 502, "provider_bad_answer"),
        (scripts.api_error(429, headers={"Retry-After": "7"}), 503, "provider_overloaded"),
        (scripts.api_error(401), 502, "provider_misconfigured"),
        (scripts.raw(b"data: {garbage\n\n"), 502, "provider_bad_answer"),
    ],
)
def test_provider_failure_returns_problem_and_releases_conversation(
    chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows, script: Any, status: int, code: str
) -> None:
    upstream.script = script
    response = chat("first")
    problem = response.get_json()
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert problem["code"] == code
    [turn] = rows("SELECT status, error FROM turns WHERE user_id = :u AND id = :t", u=user.id, t=problem["turn_id"])
    assert turn.status == "failed"
    assert turn.error["code"] == code

    upstream.script = scripts.echo()
    after = chat("second", conversation_id=problem["conversation_id"])
    assert after.status_code == 200
    assert (
        after.get_json()["message"]["content"] == "1 messages; last: first\n\nsecond"
    )  # the unanswered message is merged
    assert after.get_json()["message"]["position"] == 3


@pytest.mark.parametrize(
    ("answer", "finish", "empty"),
    [
        ("", "stop", True),
        ("", "content_filter", True),
        (" \n\u200b", "length", True),
        ("\u2800", "stop", True),
        ("x", "stop", False),
        (" \n\u200b.", "stop", False),
    ],
)
def test_answer_without_visible_text_is_marked(
    chat: Chat, upstream: Upstream, answer: str, finish: str, empty: bool
) -> None:
    upstream.script = scripts.answer(answer, finish=finish)
    body = chat("hello").get_json()
    assert body["message"]["content"] == answer
    assert body["message"]["metadata"] == ({"empty": True} if empty else {})
    assert body["turn"]["finish_reason"] == finish
    headers = {"Idempotency-Key": "k"}
    streamed, replayed = (events_of(chat(stream=True, headers=headers)) for _ in range(2))
    for events in (streamed, replayed):
        [completed] = [data for _, kind, data in events if kind == "message.completed"]
        assert completed["message"]["metadata"] == ({"empty": True} if empty else {})
        assert events[-1][1] == "turn.completed"


@pytest.mark.parametrize("start", ["\u200b" * 60, "\u2800 \u3164\n" * 80, " " * 900])
def test_title_and_preview_begin_with_visible_text(
    chat: Chat, chat_client: FlaskClient, upstream: Upstream, user: LoggedInUser, start: str
) -> None:
    upstream.script = scripts.answer(f"{start}answer")
    conversation = chat(f"{start}question").get_json()["conversation"]
    assert conversation["title"] == "question"
    shown = chat_client.get(f"/api/conversations/{conversation['id']}", headers=user.headers).get_json()
    assert shown["preview"] == "answer"


def test_provider_failure_is_last_stream_event(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.api_error(500)
    events = events_of(chat(stream=True))
    assert [kind for _, kind, _ in events] == ["turn.started", "turn.failed"]
    assert events[-1][2]["turn"]["error"]["code"] == "provider_bad_answer"


def test_partial_answer_is_stored_with_mark(chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows) -> None:
    upstream.script = scripts.raw(b'data: {"choices":[{"index":0,"delta":{"content":"half of"}}],"model":"m"}\n\n')
    problem = chat("hello").get_json()
    assert problem["status"] == 502
    [message] = rows("SELECT content, metadata FROM messages WHERE user_id = :u AND role = 'assistant'", u=user.id)
    assert (message.content, message.metadata) == ("half of", {"partial": "failed"})


def test_user_id_in_path_must_match_token(
    chat_client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    response = chat_client.post(f"/api/{user.id}/chat", json={"message": "hi"}, headers=user.headers)
    assert response.status_code == 200
    for user_id in (other_user.id, "me", "%00", "1" * 300):
        response = chat_client.post(f"/api/{user_id}/chat", json={"message": "hi"}, headers=user.headers)
        assert response.status_code == 403
        assert response.get_json()["code"] == "not_allowed"


@pytest.mark.parametrize("owner", ["missing", "other user"])
def test_chat_in_unknown_conversation_returns_404(
    chat: Chat, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, rows: Rows, upstream: Upstream, owner: str
) -> None:
    target = user.id if owner == "missing" else make_conversation(engine, other_user)
    requests = len(upstream.requests)
    response = chat("hi", conversation_id=str(target))
    assert response.status_code == 404
    assert response.get_json()["code"] == "not_found"
    for table in ("conversations", "messages", "turns"):
        assert rows(f"SELECT 1 FROM {table} WHERE user_id = :u", u=user.id) == []
    assert rows("SELECT 1 FROM messages WHERE user_id = :u", u=other_user.id) == []
    assert len(upstream.requests) == requests


def test_chat_in_other_users_project_returns_404(chat: Chat, user: LoggedInUser, rows: Rows) -> None:
    response = chat("hi", project_id=str(user.id))
    assert response.status_code == 404
    assert rows("SELECT 1 FROM conversations WHERE user_id = :u", u=user.id) == []


def test_revoked_session_or_disabled_user_cannot_chat(
    chat: Chat, engine: Engine, make_user: Callable[..., LoggedInUser], rows: Rows
) -> None:
    revoked, disabled = make_user(), make_user(status="disabled")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sessions SET revoked_at = now() WHERE user_id = %(u)s", {"u": revoked.id})
    for account in (revoked, disabled):
        response = chat("hi", account=account)
        assert response.status_code == 401
        assert rows("SELECT 1 FROM conversations WHERE user_id = :u", u=account.id) == []


BAD_BODIES: list[Any] = [
    {},
    {"message": ""},
    {"message": " \n\t "},
    {"message": None},
    {"message": 7},
    {"message": ["hi"]},
    {"message": "a" * 10_001},
    {"message": "nul\x00byte"},
    {"message": "hi", "user_id": "7"},
    {"message": "hi", "role": "system"},
    {"message": "hi", "conversation_id": "7"},
    {"message": "hi", "conversation_id": 2**70},
    {"message": "hi", "project_id": {}},
    {"message": "hi", "provider": "unknown"},
    {"message": "hi", "provider": ""},
    {"message": "hi", "model": ""},
    {"message": "hi", "model": "m\x00"},
    {"message": "hi", "stream": "yes"},
    {"message": "hi", "stream": 1},
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: str(body)[:40])
def test_invalid_body_returns_400_and_stores_nothing(
    chat_client: FlaskClient, user: LoggedInUser, rows: Rows, body: Any
) -> None:
    response = chat_client.post("/api/chat", json=body, headers=user.headers)
    assert response.status_code == 400, response.get_json()
    assert response.get_json()["detail"]
    assert rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id) == []


@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"message": "\\ud800"}', "application/json", 400),
        (b'{"message": "\xff"}', "application/json", 400),
        (b'"hello"', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"NaN", "application/json", 400),
        (b"message=hi", "application/x-www-form-urlencoded", 400),
        (b'{"message": "hi"}', "text/plain", 400),
        (b'{"message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", 400),
        (b'{"message": "' + b"a" * 2_000_000 + b'"}', "application/json", 413),
    ],
    ids=lambda value: str(value)[:24],
)
def test_malformed_request_returns_problem(
    chat_client: FlaskClient, user: LoggedInUser, raw: bytes, content_type: str, status: int
) -> None:
    response = chat_client.post("/api/chat", data=raw, content_type=content_type, headers=user.headers)
    assert response.status_code == status, response.get_data()
    assert response.content_type == "application/problem+json"


def test_setting_lowers_message_length_limit(make_chat_app: Callable[..., Flask], user: LoggedInUser) -> None:
    client = make_chat_app(chat={"max_user_chars": 5}).test_client()
    assert client.post("/api/chat", json={"message": "12345"}, headers=user.headers).status_code == 200
    response = client.post("/api/chat", json={"message": "123456"}, headers=user.headers)
    assert response.status_code == 400
    assert response.get_json()["errors"] == {"message": ["Longer than 5 characters."]}


def test_history_is_limited_by_messages_and_characters(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser
) -> None:
    upstream.script = scripts.stream_pieces(["0123456789"])
    client = make_chat_app(chat={"history_messages": 4, "history_chars": 25}).test_client()

    def send_message(message: str, **body: Any) -> Any:
        return client.post("/api/chat", json={"message": message, **body}, headers=user.headers).get_json()

    conversation = send_message("first")["conversation"]["id"]
    for message in ("second", "third", "x" * 24):
        send_message(message, conversation_id=conversation)
    contexts = [[item["content"] for item in request.body["messages"]] for request in upstream.requests[-3:]]
    assert contexts == [
        ["first", "0123456789", "second"],
        # 25 characters: "third" is the message; "second" (6) and two answers (20) would be 26.
        ["second", "0123456789", "third"],
        ["third", "0123456789", "x" * 24],
    ]


def test_project_prompts_and_model_are_used(
    chat: Chat, chat_client: FlaskClient, upstream: Upstream, user: LoggedInUser
) -> None:
    def create(path: str, **body: Any) -> str:
        response = chat_client.post(path, json=body, headers=user.headers)
        assert response.status_code == 201, response.get_json()
        return str(response.get_json()["id"])

    project = create("/api/projects", name="Pirate", provider="compatible", model="parrot-1")
    create(f"/api/projects/{project}/prompts", title="b", content="Be brief.", position=2)
    create(f"/api/projects/{project}/prompts", title="a", content="You are a pirate.", position=1)
    create(f"/api/projects/{project}/prompts", title="c", content="Disabled.", position=3, enabled=False)
    upstream.script = scripts.words(1)
    body = chat("hi", project_id=project).get_json()
    request = upstream.requests[-1].body
    assert request["model"] == "parrot-1"
    assert [(item["role"], item["content"]) for item in request["messages"]] == [
        ("system", "You are a pirate.\n\nBe brief."),
        ("user", "hi"),
    ]
    assert body["turn"]["provider"] == "compatible"


def test_turn_is_readable_only_by_its_user(
    chat: Chat, chat_client: FlaskClient, upstream: Upstream, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    upstream.script = scripts.words(2)
    turn = chat("hi").get_json()["turn"]
    response = chat_client.get(f"/api/turns/{turn['id']}", headers=user.headers)
    assert response.status_code == 200
    assert response.get_json()["status"] == "completed"
    assert response.get_json()["answer_position"] == 2
    assert chat_client.get(f"/api/turns/{turn['id']}", headers=other_user.headers).status_code == 404
