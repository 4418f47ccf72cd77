"""No turn leaves a conversation in which later turns fail, at a server that applies the strictest rules."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.event_source import TurnReader, parse
from tests.factories import LoggedInUser
from tests.fakes import chat_rules, scripts
from tests.fakes.exchange import Script
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]

STRICT = chat_rules.enforcing(scripts.words(2))
CALL = {"id": "call_1", "type": "function", "function": {"name": "add_task", "arguments": '{"title": "milk"}'}}


@pytest.fixture
def chat_strictly(upstream: Upstream, chat: Chat) -> Callable[[str], None]:
    """Return a function that continues a conversation with two turns at the strict server."""

    def chat_strictly(conversation_id: str) -> None:
        upstream.script = STRICT
        for message in ("and then?", "and now?"):
            response = chat(message, conversation_id=conversation_id)
            assert response.status_code == 200, response.get_data()

    return chat_strictly


def test_strict_server_rejects_what_the_rules_forbid(upstream: Upstream) -> None:
    user, call = {"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "content": "b", "tool_call_id": "call_1"}
    answer, system = {"role": "assistant", "content": "c"}, {"role": "system", "content": "d"}
    assert chat_rules.violation([system, user, call, result, answer, user]) is None
    for messages in (
        [user, user],
        [answer, user],
        [user, answer, system, user],
        [system, system, user],
        [user, call, user],
        [user, result],
        [user, call, result, result, answer, user],
        [user, call, result, user],
        [user, {**answer, "content": " "}, user],
    ):
        assert chat_rules.violation(messages) is not None, messages


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (scripts.api_error(500), 502),
        (scripts.reset(), 502),
        (scripts.cut(0), 502),
        (scripts.cut(2), 502),
        (scripts.api_error(400, "context_length_exceeded"), 502),
        (scripts.stream_pieces([]), 200),
        (scripts.stream_pieces([" ", "\n"]), 200),
        (scripts.stream_pieces(["\u200b"]), 200),
    ],
)
@pytest.mark.parametrize("number", [1, 2])
def test_conversation_continues_after_turn_without_answer(
    chat: Chat,
    chat_strictly: Callable[[str], None],
    upstream: Upstream,
    rows: Rows,
    user: LoggedInUser,
    script: Script,
    status: int,
    number: int,
) -> None:
    upstream.script = scripts.words(2)
    conversation_id = chat("hello").get_json()["conversation"]["id"]
    upstream.script = script
    for _ in range(number):
        assert chat("what?", conversation_id=conversation_id).status_code == status
    chat_strictly(conversation_id)


def test_conversation_continues_after_failed_first_turn(
    chat: Chat, chat_strictly: Callable[[str], None], upstream: Upstream
) -> None:
    upstream.script = scripts.api_error(500)
    conversation_id = chat("hello").get_json()["conversation_id"]
    chat_strictly(conversation_id)


def test_conversation_continues_after_cancel_before_first_token(
    chat: Chat, chat_app: Flask, chat_strictly: Callable[[str], None], upstream: Upstream, user: LoggedInUser
) -> None:
    upstream.script = scripts.hang()
    stream = chat("hello", stream=True)
    turn = TurnReader().read(parse(stream.response), 1).turn
    path = f"/api/turns/{turn['id']}/cancel"
    assert chat_app.test_client().post(path, headers=user.headers).status_code == 202
    assert TurnReader().read(parse(stream.response)).end == "turn.cancelled"
    chat_strictly(turn["conversation_id"])


def test_conversation_continues_after_crash(
    chat: Chat, chat_strictly: Callable[[str], None], upstream: Upstream, user: LoggedInUser, engine: Engine
) -> None:
    upstream.script = scripts.api_error(500)
    conversation_id = chat("hello").get_json()["conversation_id"]
    with engine.begin() as connection:  # the state after the process was killed
        connection.execute(
            text("""
            WITH turn AS (UPDATE turns SET status = 'running', finished_at = NULL, error = NULL,
                                 heartbeat_at = now() - interval '1 hour' WHERE user_id = :u
                          RETURNING user_id, conversation_id, attempt)
            UPDATE conversations SET running_attempt = turn.attempt FROM turn
             WHERE conversations.user_id = turn.user_id AND id = turn.conversation_id"""),
            {"u": user.id},
        )
    chat_strictly(conversation_id)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [CALL]}],
        [{"role": "user", "content": "a"}, {"role": "tool", "content": "b", "tool_call_id": "call_1"}],
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
            {"role": "tool", "content": "b", "tool_call_id": "call_2"},
        ],
        [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"anything": 1}]}],
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "c"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": " \n"}],
    ],
)
def test_imported_conversation_continues(
    chat_app: Flask, chat_strictly: Callable[[str], None], user: LoggedInUser, messages: list[dict[str, Any]]
) -> None:
    document = {"version": 1, "conversation": {"title": "Imported"}, "messages": messages}
    response = chat_app.test_client().post("/api/conversations/import", json=document, headers=user.headers)
    assert response.status_code == 201, response.get_data()
    chat_strictly(response.get_json()["id"])


@pytest.mark.parametrize("window", range(1, 7))
def test_conversation_continues_with_any_begin_of_the_window(
    make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, window: int
) -> None:
    chat_app = make_chat_app(chat={"history_messages": window})
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "b", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    document = {"version": 1, "conversation": {"title": "Imported"}, "messages": messages}
    client = chat_app.test_client()
    conversation = client.post("/api/conversations/import", json=document, headers=user.headers).get_json()["id"]
    upstream.script = STRICT
    for message in ("e", "f", "g"):
        body = {"message": message, "conversation_id": conversation}
        response = client.post("/api/chat", json=body, headers=user.headers)
        assert response.status_code == 200, response.get_data()
