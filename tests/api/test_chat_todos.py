"""The to-do list in a chat with the demo provider, which works offline."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.ids import new_id
from tests.api.conftest import events_of
from tests.api.rows import owned_rows
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

MESSAGE = "Add a task to buy groceries, then show me what is open"
ANSWER = "This is the demo, without any AI. I added “Buy groceries”. Your open tasks: “Buy groceries”."


@pytest.fixture
def demo_client(make_chat_app: Callable[..., Flask]) -> FlaskClient:
    return make_chat_app(provider={"name": "demo"}).test_client()


@pytest.fixture
def say(demo_client: FlaskClient, user: LoggedInUser) -> Callable[..., dict[str, Any]]:
    """Return a function that sends a message and returns the response."""

    def say(message: str, **fields: Any) -> dict[str, Any]:
        answered = demo_client.post("/api/chat", json={"message": message, **fields}, headers=user.headers)
        assert answered.status_code == 200, answered.json
        return dict(answered.json or {})

    return say


def titles(client: FlaskClient, user: LoggedInUser, **query: str) -> list[str]:
    return [item["title"] for item in client.get("/api/tasks", query_string=query, headers=user.headers).json["items"]]


def test_task_is_added_listed_and_shown_in_the_conversation(
    demo_client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, say: Callable[..., dict[str, Any]]
) -> None:
    answered = say(MESSAGE)
    assert answered["message"]["content"] == ANSWER
    assert titles(demo_client, user) == ["Buy groceries"]
    assert titles(demo_client, other_user) == []
    place = f"/api/conversations/{answered['conversation']['id']}/messages"
    messages = demo_client.get(place, headers=user.headers).json["items"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [call["function"]["name"] for message in messages for call in message["tool_calls"] or ()] == [
        "add_task",
        "list_tasks",
    ]
    [added, listed] = [json.loads(message["content"]) for message in messages if message["role"] == "tool"]
    assert listed["tasks"] == [added["task"]]


def test_events_of_a_stream_show_calls_and_results(demo_client: FlaskClient, user: LoggedInUser) -> None:
    streamed = demo_client.post("/api/chat", json={"message": MESSAGE, "stream": True}, headers=user.headers)
    events = events_of(streamed)
    names = [name for _, name, _ in events]
    assert [name for name in names if name.startswith("tool.")] == ["tool.call", "tool.result"] * 2
    assert "".join(data["text"] for _, name, data in events if name == "message.delta") == ANSWER
    assert names[-1] == "turn.completed"


def test_task_is_completed_and_deleted_in_the_same_conversation(
    demo_client: FlaskClient, user: LoggedInUser, say: Callable[..., dict[str, Any]]
) -> None:
    conversation = say(MESSAGE)["conversation"]["id"]
    completed = say("Mark groceries as done and show me what is open", conversation_id=conversation)
    assert completed["message"]["content"].endswith("I completed “Buy groceries”. You have no open tasks.")
    assert titles(demo_client, user, completed="true") == ["Buy groceries"]
    deleted = say("Delete the task groceries", conversation_id=conversation)
    assert deleted["message"]["content"].endswith("I deleted “Buy groceries”.")
    assert titles(demo_client, user) == []


def test_repeated_request_adds_one_task(demo_client: FlaskClient, engine: Engine, user: LoggedInUser) -> None:
    headers = {**user.headers, "Idempotency-Key": str(new_id())}
    answers = [demo_client.post("/api/chat", json={"message": MESSAGE}, headers=headers).json for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(owned_rows(engine, user)["tasks"]) == 1


def test_new_attempt_of_a_turn_adds_no_second_task(
    chat: Callable[..., TestResponse], upstream: Upstream, engine: Engine, user: LoggedInUser
) -> None:
    first, again = (scripts.calls((call_id, "add_task", '{"title": "Sleep"}')) for call_id in ("a", "b"))
    upstream.queue_scripts(first, scripts.api_error(500), again, scripts.words(1))
    assert chat(headers={"Idempotency-Key": "k"}).status_code >= 500
    assert chat(headers={"Idempotency-Key": "k"}).status_code == 200
    assert [row[0]["title"] for row in owned_rows(engine, user)["tasks"]] == ["Sleep"]


def test_two_calls_with_equal_arguments_add_two_tasks(
    chat: Callable[..., TestResponse], upstream: Upstream, engine: Engine, user: LoggedInUser
) -> None:
    title = '{"title": "Drink water"}'
    upstream.queue_scripts(scripts.calls(("a", "add_task", title), ("b", "add_task", title)), scripts.words(1))
    assert chat().status_code == 200
    assert len(owned_rows(engine, user)["tasks"]) == 2


def test_error_of_a_tool_is_answered(make_chat_app: Callable[..., Flask], engine: Engine, user: LoggedInUser) -> None:
    limited = make_chat_app(provider={"name": "demo"}, chat={"user_max_todos": 1}).test_client()
    for expected in ("I added", "You have 1 tasks, which is the maximum"):
        answered = limited.post("/api/chat", json={"message": "remind me to sleep"}, headers=user.headers)
        assert answered.status_code == 200, answered.json
        assert expected in answered.json["message"]["content"]
    assert len(owned_rows(engine, user)["tasks"]) == 1
