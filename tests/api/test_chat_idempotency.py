"""`Idempotency-Key` on `POST /api/chat`: join a running turn, replay a completed one, retry a failed one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]
KEY = {"Idempotency-Key": "order-66"}


def test_completed_turn_is_replayed(chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows) -> None:
    upstream.script = scripts.words(3)
    first = chat("hello", headers=KEY)
    answer, requests = first.get_json(), len(upstream.requests)
    second = chat("hello", headers=KEY)
    assert second.get_json() == answer
    stream = chat("hello", headers=KEY, stream=True)  # the same request, delivered in another way
    assert [response.headers.get("Idempotency-Replayed") for response in (first, second, stream)] == [
        None,
        "true",
        "true",
    ]
    events = events_of(stream)
    assert [kind for _, kind, _ in events] == ["turn.started", "message.delta", "message.completed", "turn.completed"]
    assert events[-2][2]["message"]["content"] == answer["message"]["content"]
    assert len(upstream.requests) == requests
    assert len(rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_same_key_with_other_body_returns_422(chat: Chat) -> None:
    chat("hello", headers=KEY)
    response = chat("something else", headers=KEY)
    assert response.status_code == 422
    assert response.get_json()["code"] == "idempotency_mismatch"


def test_idempotency_keys_are_scoped_to_user(chat: Chat, other_user: LoggedInUser) -> None:
    turn_id = chat("hello", headers=KEY).get_json()["turn"]["id"]
    other = chat("hello", headers=KEY, account=other_user)
    assert other.status_code == 200
    assert other.get_json()["turn"]["id"] != turn_id


def test_concurrent_duplicates_share_one_provider_request(
    chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows
) -> None:
    upstream.script = scripts.words(5, pause=0.2)
    requests = len(upstream.requests)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: chat("hello", headers=KEY), range(20)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    turn_ids = [answer.get_json()["turn"]["id"] for answer in answers if answer.status_code == 200]
    assert len(set(turn_ids)) == 1
    assert len(upstream.requests) == requests + 1
    assert len(rows("SELECT 1 FROM messages WHERE user_id = :u", u=user.id)) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_duplicate_joins_turn_of_other_process(
    chat: Chat, make_chat_app: Callable[..., Flask], upstream: Upstream, user: LoggedInUser, stream: bool
) -> None:
    upstream.script = scripts.words(10, pause=0.1)
    other_client = make_chat_app().test_client()
    requests = len(upstream.requests)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "hello", headers=KEY)
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        joined = other_client.post("/api/chat", json={"message": "hello", "stream": stream}, headers=user.headers | KEY)
        if stream:
            events = events_of(joined)
            assert events[-1][1] == "turn.completed"
            message = events[-2][2]["message"]
        else:
            message = joined.get_json()["message"]
        first = pending.result().get_json()
    assert message == first["message"]
    assert len(upstream.requests) == requests + 1
    assert other_client.post("/api/chat", json={"message": "hello"}, headers=user.headers | KEY).get_json() == first


def test_failed_turn_is_retried_under_same_id(chat: Chat, upstream: Upstream, user: LoggedInUser, rows: Rows) -> None:
    upstream.script = scripts.raw(b'data: {"choices":[{"index":0,"delta":{"content":"half"}}],"model":"m"}\n\n')
    failed = chat("hello", headers=KEY).get_json()
    upstream.script = scripts.echo()
    body = chat("hello", headers=KEY).get_json()
    assert body["turn"]["id"] == failed["turn_id"]
    assert body["turn"]["error"] is None
    assert body["message"]["content"] == "1 messages; last: hello"
    messages = rows("SELECT role, content, metadata FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [(row.role, row.metadata) for row in messages] == [
        ("user", {}),
        ("assistant", {"partial": "failed"}),
        ("assistant", {}),
    ]


def test_failed_turn_with_later_messages_is_not_retried(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.api_error(500)
    failed = chat("hello", headers=KEY).get_json()
    upstream.script = scripts.words(1)
    assert chat("next", conversation_id=failed["conversation_id"]).status_code == 200
    response = chat("hello", headers=KEY)
    assert response.status_code == 409
    assert response.get_json()["code"] == "conversation_moved_on"


def test_stale_turn_is_retried_with_same_key(
    chat: Chat, upstream: Upstream, user: LoggedInUser, engine: Engine, rows: Rows
) -> None:
    upstream.script = scripts.api_error(500)
    failed = chat("hello", headers=KEY).get_json()
    with engine.begin() as connection:  # the state after the process was killed between begin and finish
        connection.execute(
            text("""
            WITH t AS (UPDATE turns SET status = 'running', finished_at = NULL, heartbeat_at = now() - interval '1 min'
                        WHERE user_id = :u RETURNING user_id, conversation_id, attempt)
            UPDATE conversations SET running_attempt = t.attempt FROM t
             WHERE conversations.user_id = t.user_id AND id = t.conversation_id"""),
            {"u": user.id},
        )
    upstream.script = scripts.words(2)
    body = chat("hello", headers=KEY).get_json()
    assert body["turn"]["id"] == failed["turn_id"]
    assert body["turn"]["status"] == "completed"
    assert len(rows("SELECT 1 FROM messages WHERE user_id = :u AND role = 'user'", u=user.id)) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "schlüssel", "tab\there"])
def test_invalid_idempotency_key_returns_400(chat: Chat, user: LoggedInUser, rows: Rows, key: str) -> None:
    response = chat("hello", headers={"Idempotency-Key": key.encode("latin-1").decode("latin-1")})
    assert response.status_code == 400
    assert rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id) == []
