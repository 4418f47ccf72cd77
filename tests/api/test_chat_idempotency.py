"""The same request twice is one turn: joined while it runs, told again when done, run again when it failed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.api.conftest import events_of
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]
KEY = {"Idempotency-Key": "order-66"}


def test_a_completed_turn_is_told_again(chat: Chat, upstream: Upstream, user: Account, rows: Rows) -> None:
    upstream.script = scripts.words(3)
    new = chat("hello", headers=KEY)
    first, asked = new.get_json(), len(upstream.requests)
    again = chat("hello", headers=KEY)
    assert again.get_json() == first
    stream = chat("hello", headers=KEY, stream=True)  # how it is delivered is no part of the request
    assert [each.headers.get("Idempotency-Replayed") for each in (new, again, stream)] == [None, "true", "true"]
    events = events_of(stream)
    assert [kind for _, kind, _ in events] == ["turn.started", "message.delta", "message.completed", "turn.completed"]
    assert events[-2][2]["message"]["content"] == first["message"]["content"]
    assert len(upstream.requests) == asked
    assert len(rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_another_body_under_the_same_key_is_refused(chat: Chat) -> None:
    chat("hello", headers=KEY)
    refused = chat("something else", headers=KEY)
    assert refused.status_code == 422
    assert refused.get_json()["code"] == "idempotency_mismatch"


def test_keys_belong_to_their_user(chat: Chat, other_user: Account) -> None:
    mine = chat("hello", headers=KEY).get_json()["turn"]["id"]
    theirs = chat("hello", headers=KEY, account=other_user)
    assert theirs.status_code == 200
    assert theirs.get_json()["turn"]["id"] != mine


def test_parallel_duplicates_in_one_process_join_one_call(
    chat: Chat, upstream: Upstream, user: Account, rows: Rows
) -> None:
    upstream.script = scripts.words(5, pause=0.2)
    asked = len(upstream.requests)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: chat("hello", headers=KEY), range(20)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    done = [answer.get_json()["turn"]["id"] for answer in answers if answer.status_code == 200]
    assert len(set(done)) == 1
    assert len(upstream.requests) == asked + 1
    assert len(rows("SELECT 1 FROM messages WHERE user_id = :u", u=user.id)) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_while_another_process_answers_it_is_joined_there(
    chat: Chat, make_chat_app: Callable[..., Flask], upstream: Upstream, user: Account, stream: bool
) -> None:
    upstream.script = scripts.words(10, pause=0.1)
    elsewhere = make_chat_app().test_client()
    asked = len(upstream.requests)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(chat, "hello", headers=KEY)
        upstream.wait_for(lambda: upstream.open_streams >= 1)
        joined = elsewhere.post("/api/chat", json={"message": "hello", "stream": stream}, headers=user.headers | KEY)
        if stream:
            events = events_of(joined)
            assert events[-1][1] == "turn.completed"
            told = events[-2][2]["message"]
        else:
            told = joined.get_json()["message"]
        first = pending.result().get_json()
    assert told == first["message"]
    assert len(upstream.requests) == asked + 1
    assert elsewhere.post("/api/chat", json={"message": "hello"}, headers=user.headers | KEY).get_json() == first


def test_a_failed_turn_runs_again_as_the_same_turn(chat: Chat, upstream: Upstream, user: Account, rows: Rows) -> None:
    upstream.script = scripts.raw(b'data: {"choices":[{"index":0,"delta":{"content":"half"}}],"model":"m"}\n\n')
    failed = chat("hello", headers=KEY).get_json()
    upstream.script = scripts.echo()
    body = chat("hello", headers=KEY).get_json()
    assert body["turn"]["id"] == failed["turn_id"]
    assert body["turn"]["error"] is None
    assert body["message"]["content"] == "1 messages; last: hello"
    kept = rows("SELECT role, content, metadata FROM messages WHERE user_id = :u ORDER BY position", u=user.id)
    assert [(row.role, row.metadata) for row in kept] == [
        ("user", {}),
        ("assistant", {"partial": "failed"}),
        ("assistant", {}),
    ]


def test_a_failed_turn_does_not_run_again_once_the_conversation_moved_on(chat: Chat, upstream: Upstream) -> None:
    upstream.script = scripts.refusal(500)
    failed = chat("hello", headers=KEY).get_json()
    upstream.script = scripts.words(1)
    assert chat("next", conversation_id=failed["conversation_id"]).status_code == 200
    refused = chat("hello", headers=KEY)
    assert refused.status_code == 409
    assert refused.get_json()["code"] == "conversation_moved_on"


def test_after_a_crash_the_same_key_runs_the_turn_again(
    chat: Chat, upstream: Upstream, user: Account, engine: Engine, rows: Rows
) -> None:
    upstream.script = scripts.refusal(500)
    failed = chat("hello", headers=KEY).get_json()
    with engine.begin() as connection:  # what a kill -9 between begin and finish leaves behind
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
def test_a_key_that_is_none_is_refused(chat: Chat, user: Account, rows: Rows, key: str) -> None:
    response = chat("hello", headers={"Idempotency-Key": key.encode("latin-1").decode("latin-1")})
    assert response.status_code == 400
    assert rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id) == []
