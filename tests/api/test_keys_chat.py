"""Chatting with a key: the turn's own statements check it, so a turn is two statements for programs, too."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.extensions import db
from app.models import KeyScope
from app.models.columns import new_id
from app.repositories import turns
from tests.api.conftest import events_of
from tests.api.keys import Key, change_key, make_key, problem, refused, statements_of
from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Rows = Callable[..., list[Any]]


@pytest.fixture
def key(chat_app: Flask, user: Account) -> Key:
    return make_key(chat_app, user, [KeyScope.CHAT])


@pytest.fixture
def say(chat_client: FlaskClient, key: Key) -> Callable[..., TestResponse]:
    """Post a message with the key; `idempotency_key` becomes a header, the rest fields of the body."""

    def post(message: str = "hello", *, idempotency_key: str | None = None, **body: Any) -> TestResponse:
        headers = {**key.headers, **({"Idempotency-Key": idempotency_key} if idempotency_key else {})}
        return chat_client.post("/api/chat", json={"message": message, **body}, headers=headers)

    return post


BACKGROUND = {"turns.heartbeat", "api_keys.touch", "runtime_settings.all"}


@pytest.fixture
def chat_engine(chat_app: Flask) -> Engine:
    with chat_app.app_context():
        return db.engine


def test_a_turn_with_a_key_is_two_statements(
    say: Callable[..., TestResponse], chat_client: FlaskClient, chat_engine: Engine, key: Key
) -> None:
    with statements_of(chat_engine) as seen:
        first = say()
        assert first.status_code == 200, first.text
        of_turns = [name for name in seen if name.startswith("turns.") and name != "turns.heartbeat"]
        assert of_turns == ["turns.begin_new", "turns.finish"]
        # What there may be more is of the background, and comes once in a while.
        assert {*seen} - {*of_turns, *BACKGROUND} == set()
        del seen[:]
        assert say("and?", conversation_id=first.json["conversation"]["id"]).status_code == 200  # type: ignore[index]
        assert [name for name in seen if name not in BACKGROUND] == ["turns.begin", "turns.finish"]


def test_the_statements_for_keys_ask_for_no_session_and_the_others_for_no_key() -> None:
    for statement in (turns.BEGIN, turns.BEGIN_NEW, turns.BEGIN_AGAIN, turns.DIAGNOSE):
        by_key = turns.called(statement, by_key=True)
        assert by_key.name == statement.name
        assert "session_id" not in by_key.sql
        assert "%(key_hash)s" in by_key.sql
        assert turns.called(statement, by_key=False) is statement
        assert "api_keys" not in statement.sql


def test_a_stream_and_its_turn_are_the_keys_to_read(
    say: Callable[..., TestResponse], chat_client: FlaskClient, key: Key, user: Account
) -> None:
    events = events_of(say(stream=True))
    assert events[-1][1] == "turn.completed"
    url = f"/api/turns/{events[-1][2]['turn']['id']}"
    assert (chat_client.get(url, headers=key.headers).json or {})["status"] == "completed"
    assert chat_client.post(f"{url}/cancel", headers=key.headers).status_code == 202
    own = chat_client.post(f"/api/{user.id}/chat", json={"message": "hello"}, headers=key.headers)
    assert own.status_code == 200
    assert "`read`" in problem(chat_client.get("/api/conversations", headers=key.headers), 403, "not_allowed")["detail"]


def test_the_same_request_again_is_told_again(say: Callable[..., TestResponse], upstream: Upstream) -> None:
    first, again = (say(idempotency_key="once") for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert (first.json or {})["turn"]["id"] == (again.json or {})["turn"]["id"]
    problem(say("something else", idempotency_key="once"), 422, "idempotency_mismatch")


def test_a_failed_turn_runs_again_by_the_same_key(say: Callable[..., TestResponse], upstream: Upstream) -> None:
    upstream.script = scripts.status(500)
    failed = say(idempotency_key="twice")
    assert failed.status_code == 502, failed.text
    upstream.script = scripts.words()
    again = say(idempotency_key="twice")
    assert again.status_code == 200
    assert (again.json or {})["turn"]["id"] == (failed.json or {})["turn_id"]


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()"])
def test_a_key_that_ends_between_two_requests_neither_joins_nor_hears_the_answer(
    say: Callable[..., TestResponse], engine: Engine, key: Key, rows: Rows, user: Account, change: str
) -> None:
    first = say(idempotency_key="once")
    change_key(engine, key, change)
    refused(say(idempotency_key="once"), "API key has")
    refused(say(conversation_id=first.json["conversation"]["id"]), "API key has")  # type: ignore[index]
    assert len(rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_a_key_without_the_scope_is_403_before_anything_else(
    chat_client: FlaskClient, chat_app: Flask, user: Account, say: Callable[..., TestResponse], rows: Rows
) -> None:
    conversation = (say().json or {})["conversation"]["id"]
    lacking = make_key(chat_app, user, set(KeyScope) - {KeyScope.CHAT})
    for body in ({}, {"conversation_id": conversation}, {"conversation_id": str(new_id())}):
        answer = chat_client.post("/api/chat", json={"message": "hello", **body}, headers=lacking.headers)
        assert "`chat`" in problem(answer, 403, "not_allowed")["detail"]
    assert len(rows("SELECT 1 FROM messages WHERE user_id = :u", u=user.id)) == 2


def test_somebody_elses_conversation_and_turn_are_not_there(
    chat_client: FlaskClient, chat_app: Flask, other_user: Account, say: Callable[..., TestResponse]
) -> None:
    mine = say().json or {}
    theirs = make_key(chat_app, other_user)
    body = {"message": "hello", "conversation_id": mine["conversation"]["id"]}
    problem(chat_client.post("/api/chat", json=body, headers=theirs.headers), 404, "not_found")
    problem(chat_client.get(f"/api/turns/{mine['turn']['id']}", headers=theirs.headers), 404, "not_found")
    problem(chat_client.post(f"/api/turns/{mine['turn']['id']}/cancel", headers=theirs.headers), 404, "not_found")
