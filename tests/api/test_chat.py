"""A turn through the API: as JSON, as a stream, and when the provider fails."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import Account, make_conversation
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def test_a_message_is_answered_and_both_are_kept(chat: Chat, upstream: Upstream, user: Account, rows: Rows) -> None:
    upstream.script = scripts.words(3)
    body = chat("What   is\nnew?").get_json()
    assert body["message"]["content"] == "word0 word1 word2 "
    assert body["turn"]["status"] == "completed"
    assert body["usage"]["output_tokens"] == body["turn"]["usage"]["output_tokens"]
    assert body["conversation"]["title"] == "What is new?"
    kept = rows("SELECT position, role, content FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [tuple(row) for row in kept] == [(1, "user", "What   is\nnew?"), (2, "assistant", "word0 word1 word2 ")]
    assert body["message"]["id"] == f"{body['conversation']['id']}.2"


def test_a_long_first_message_gives_a_short_title(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.words(1)
    assert chat("a" * 51).get_json()["conversation"]["title"] == "a" * 50 + "..."
    assert chat("a" * 50).get_json()["conversation"]["title"] == "a" * 50


def test_the_provider_sees_the_history(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.echo()
    conversation = chat("one").get_json()["conversation"]["id"]
    body = chat("two", conversation_id=conversation).get_json()
    assert body["message"]["content"] == "3 messages; last: two"
    assert body["message"]["position"] == 4


def test_a_stream_tells_the_turn_in_order(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.words(3)
    response = chat("hello", stream=True)
    assert response.content_type == "text/event-stream; charset=utf-8"
    events = events_of(response)
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind, _ in events]
    assert kinds == ["turn.started", *["message.delta"] * 3, "message.completed", "turn.completed"]
    said = "".join(data["text"] for _, kind, data in events if kind == "message.delta")
    assert said == events[-2][2]["message"]["content"] == "word0 word1 word2 "


def test_accept_asks_for_a_stream_too(chat: Chat) -> None:
    assert chat(headers={"Accept": "text/event-stream"}).content_type.startswith("text/event-stream")


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (scripts.refusal(500), 502, "provider_bad_answer"),
        (scripts.refusal(429, headers={"Retry-After": "7"}), 503, "provider_overloaded"),
        (scripts.refusal(401), 502, "provider_misconfigured"),
        (scripts.raw(b"data: {garbage\n\n"), 502, "provider_bad_answer"),
    ],
)
def test_a_failed_provider_is_said_and_the_conversation_goes_on(
    chat: Chat, upstream: Upstream, user: Account, rows: Rows, script: Any, status: int, code: str
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
    assert after.get_json()["message"]["content"] == "2 messages; last: second"
    assert after.get_json()["message"]["position"] == 3


def test_a_failure_is_the_last_event_of_a_stream(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.refusal(500)
    events = events_of(chat(stream=True))
    assert [kind for _, kind, _ in events] == ["turn.started", "turn.failed"]
    assert events[-1][2]["turn"]["error"]["code"] == "provider_bad_answer"


def test_a_broken_answer_is_kept_and_marked(chat: Chat, upstream: Upstream, user: Account, rows: Rows) -> None:
    upstream.script = scripts.raw(b'data: {"choices":[{"index":0,"delta":{"content":"half of"}}],"model":"m"}\n\n')
    problem = chat("tell me").get_json()
    assert problem["status"] == 502
    [message] = rows("SELECT content, metadata FROM messages WHERE user_id = :u AND role = 'assistant'", u=user.id)
    assert (message.content, message.metadata) == ("half of", {"partial": "failed"})


def test_a_user_may_be_named_in_the_path(chat_client: FlaskClient, user: Account, other_user: Account) -> None:
    own = chat_client.post(f"/api/{user.id}/chat", json={"message": "hi"}, headers=user.headers)
    assert own.status_code == 200
    for other in (other_user.id, "me", "%00", "1" * 300):
        foreign = chat_client.post(f"/api/{other}/chat", json={"message": "hi"}, headers=user.headers)
        assert foreign.status_code == 403
        assert foreign.get_json()["code"] == "not_allowed"


@pytest.mark.parametrize("whose", ["nobody's", "somebody else's"])
def test_an_unreachable_conversation_is_not_found(
    chat: Chat, engine: Engine, user: Account, other_user: Account, rows: Rows, upstream: Upstream, whose: str
) -> None:
    target = user.id if whose == "nobody's" else make_conversation(engine, other_user)
    asked = len(upstream.requests)
    response = chat("hi", conversation_id=str(target))
    assert response.status_code == 404
    assert response.get_json()["code"] == "not_found"
    for table in ("conversations", "messages", "turns"):
        assert rows(f"SELECT 1 FROM {table} WHERE user_id = :u", u=user.id) == []
    assert rows("SELECT 1 FROM messages WHERE user_id = :u", u=other_user.id) == []
    assert len(upstream.requests) == asked


def test_a_foreign_project_is_not_found(chat: Chat, user: Account, rows: Rows) -> None:
    response = chat("hi", project_id=str(user.id))
    assert response.status_code == 404
    assert rows("SELECT 1 FROM conversations WHERE user_id = :u", u=user.id) == []


def test_a_revoked_session_or_disabled_user_cannot_begin(
    chat: Chat, engine: Engine, make_user: Callable[..., Account], rows: Rows
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
    {"message": "hi", "provider": "nobody"},
    {"message": "hi", "provider": ""},
    {"message": "hi", "model": ""},
    {"message": "hi", "model": "m\x00"},
    {"message": "hi", "stream": "yes"},
    {"message": "hi", "stream": 1},
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: str(body)[:40])
def test_bad_bodies_are_refused_and_leave_nothing(
    chat_client: FlaskClient, user: Account, rows: Rows, body: Any
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
def test_malformed_requests_are_refused(
    chat_client: FlaskClient, user: Account, raw: bytes, content_type: str, status: int
) -> None:
    response = chat_client.post("/api/chat", data=raw, content_type=content_type, headers=user.headers)
    assert response.status_code == status, response.get_data()
    assert response.content_type == "application/problem+json"


def test_the_operator_may_lower_the_longest_message(make_chat_app: Callable[..., Flask], user: Account) -> None:
    client = make_chat_app(chat={"max_user_chars": 5}).test_client()
    assert client.post("/api/chat", json={"message": "12345"}, headers=user.headers).status_code == 200
    refused = client.post("/api/chat", json={"message": "123456"}, headers=user.headers)
    assert refused.status_code == 400
    assert refused.get_json()["errors"] == {"message": ["Longer than 5 characters."]}


def test_the_history_is_bounded_by_messages_and_by_characters(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account
) -> None:
    upstream.script = scripts.says(["0123456789"])
    client = make_chat_app(chat={"history_messages": 4, "history_chars": 25}).test_client()

    def say(message: str, **body: Any) -> Any:
        return client.post("/api/chat", json={"message": message, **body}, headers=user.headers).get_json()

    conversation = say("first")["conversation"]["id"]
    for message in ("second", "third", "x" * 24):
        say(message, conversation_id=conversation)
    seen = [[item["content"] for item in request.body["messages"]] for request in upstream.requests[-3:]]
    assert seen == [
        ["first", "0123456789", "second"],
        # 25 characters reach back to "second" (6) and its answer (10); "0123456789" before it would be the 26th.
        ["second", "0123456789", "third"],
        ["third", "0123456789", "x" * 24],
    ]


def test_a_projects_prompts_open_the_context_and_its_model_answers(
    chat: Chat, chat_client: FlaskClient, upstream: Upstream, user: Account
) -> None:
    def create(path: str, **body: Any) -> str:
        response = chat_client.post(path, json=body, headers=user.headers)
        assert response.status_code == 201, response.get_json()
        return str(response.get_json()["id"])

    project = create("/api/projects", name="Pirate", provider="compatible", model="parrot-1")
    create(f"/api/projects/{project}/prompts", title="b", content="Be brief.", position=2)
    create(f"/api/projects/{project}/prompts", title="a", content="You are a pirate.", position=1)
    create(f"/api/projects/{project}/prompts", title="c", content="Never this.", position=3, enabled=False)
    upstream.script = scripts.words(1)
    body = chat("hi", project_id=project).get_json()
    asked = upstream.requests[-1].body
    assert asked["model"] == "parrot-1"
    assert [(item["role"], item["content"]) for item in asked["messages"]] == [
        ("system", "You are a pirate."),
        ("system", "Be brief."),
        ("user", "hi"),
    ]
    assert body["turn"]["provider"] == "compatible"


def test_a_turn_can_be_read_by_its_owner_only(
    chat: Chat, chat_client: FlaskClient, upstream: Upstream, user: Account, other_user: Account
) -> None:
    upstream.script = scripts.words(2)
    turn = chat("hi").get_json()["turn"]
    read = chat_client.get(f"/api/turns/{turn['id']}", headers=user.headers)
    assert read.status_code == 200
    assert read.get_json()["status"] == "completed"
    assert read.get_json()["answer_position"] == 2
    assert chat_client.get(f"/api/turns/{turn['id']}", headers=other_user.headers).status_code == 404
