"""Chat with an API key, which the statement that begins the turn checks, so a turn takes two statements."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.enums import KeyScope
from app.extensions import db
from app.ids import new_id
from app.repositories import turn_begin, turn_diagnosis
from app.repositories.turn_begin import BeginKind
from tests.api.conftest import events_of
from tests.api.keys import Key, change_key, make_key, statements_of
from tests.api.mcp.messages import McpCaller
from tests.api.responses import assert_problem, assert_unauthenticated
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream

Rows = Callable[..., list[Any]]


@pytest.fixture
def key(chat_app: Flask, user: LoggedInUser) -> Key:
    return make_key(chat_app, user, [KeyScope.CHAT])


@pytest.fixture
def chat(chat_client: FlaskClient, key: Key) -> Callable[..., TestResponse]:
    """Return a function that posts a message with the key and, if given, an Idempotency-Key."""

    def post(message: str = "hello", *, idempotency_key: str | None = None, **body: Any) -> TestResponse:
        headers = {**key.headers, **({"Idempotency-Key": idempotency_key} if idempotency_key else {})}
        return chat_client.post("/api/chat", json={"message": message, **body}, headers=headers)

    return post


@pytest.mark.parametrize(
    ("scopes", "offered"),
    [
        (["chat"], []),
        (["chat", "read"], ["list_tasks"]),
        (["chat", "write"], ["add_task", "update_task", "complete_task", "delete_task"]),
        (["chat", "read", "write"], ["add_task", "list_tasks", "update_task", "complete_task", "delete_task"]),
    ],
)
def test_tools_follow_scopes_of_the_key_in_chat_rest_and_mcp(
    scopes: list[str],
    offered: list[str],
    chat_app: Flask,
    chat_client: FlaskClient,
    user: LoggedInUser,
    upstream: Upstream,
    rows: Rows,
) -> None:
    key, before = make_key(chat_app, user, scopes), len(upstream.requests)
    upstream.queue_scripts(scripts.calls(("a", "add_task", '{"title": "Buy milk"}')))
    answered = chat_client.post("/api/chat", json={"message": "add it"}, headers=key.headers)
    assert answered.status_code == 200
    assert [tool["function"]["name"] for tool in upstream.requests[before].body.get("tools", [])] == offered
    in_chat = len(rows("SELECT 1 FROM tasks WHERE user_id = :u", u=user.id))
    by_rest = chat_client.post("/api/tasks", json={"title": "Buy milk"}, headers=key.headers).status_code
    listed = chat_client.get("/api/tasks", headers=key.headers).status_code
    may_write, may_read = "write" in scopes, "read" in scopes
    assert (in_chat, by_rest, listed) == (int(may_write), 201 if may_write else 403, 200 if may_read else 403)
    result = McpCaller(chat_client, key.headers).send("tools/call", {"name": "add_task", "arguments": {"title": "x"}})
    assert result.status_code == (200 if may_write and may_read else 403)


def test_retried_turn_has_the_tools_of_the_key_that_retries(
    chat_app: Flask, chat_client: FlaskClient, user: LoggedInUser, upstream: Upstream
) -> None:
    chat_only, complete = make_key(chat_app, user, ["chat"]), make_key(chat_app, user, ["chat", "read", "write"])
    before = len(upstream.requests)
    upstream.queue_scripts(scripts.api_error(500), scripts.api_error(500))
    for key, status in ((complete, 502), (chat_only, 502), (complete, 200)):
        headers = {**key.headers, "Idempotency-Key": "again"}
        assert chat_client.post("/api/chat", json={"message": "hello"}, headers=headers).status_code == status
    assert ["tools" in request.body for request in upstream.requests[before:]] == [True, False, True]


BACKGROUND = {"turns.heartbeat", "api_keys.touch", "runtime_settings.all", "mcp_servers.revisions"}


@pytest.fixture
def chat_engine(chat_app: Flask) -> Engine:
    with chat_app.app_context():
        return db.engine


def test_turn_with_key_takes_two_statements(
    chat: Callable[..., TestResponse], chat_client: FlaskClient, chat_engine: Engine, key: Key
) -> None:
    with statements_of(chat_engine) as seen:
        first = chat()
        assert first.status_code == 200, first.text
        of_turns = [name for name in seen if name.startswith("turns.") and name != "turns.heartbeat"]
        assert of_turns == ["turns.begin_new", "turns.finish"]
        # Further statements are of background threads.
        assert {*seen} - {*of_turns, *BACKGROUND} == set()
        del seen[:]
        assert chat("and?", conversation_id=first.json["conversation"]["id"]).status_code == 200  # type: ignore[index]
        assert [name for name in seen if name not in BACKGROUND] == ["turns.begin", "turns.finish"]


def test_begin_statements_check_key_or_session() -> None:
    begins = [tuple(turn_begin.variant(kind, by_key=by_key) for by_key in (False, True)) for kind in BeginKind]
    for statement, by_key in (*begins, (turn_diagnosis.DIAGNOSE, turn_diagnosis.DIAGNOSE_BY_KEY)):
        assert by_key.name == statement.name
        assert "%(session_id)s" in statement.sql
        assert "session_id" not in by_key.sql
        assert "%(key_hash)s" in by_key.sql
        assert "api_keys" not in statement.sql


def test_key_reads_stream_and_turn(
    chat: Callable[..., TestResponse], chat_client: FlaskClient, key: Key, user: LoggedInUser
) -> None:
    events = events_of(chat(stream=True))
    assert events[-1][1] == "turn.completed"
    url = f"/api/turns/{events[-1][2]['turn']['id']}"
    assert (chat_client.get(url, headers=key.headers).json or {})["status"] == "completed"
    assert chat_client.post(f"{url}/cancel", headers=key.headers).status_code == 202
    own = chat_client.post(f"/api/{user.id}/chat", json={"message": "hello"}, headers=key.headers)
    assert own.status_code == 200
    assert (
        "`read`"
        in assert_problem(chat_client.get("/api/conversations", headers=key.headers), 403, "not_allowed")["detail"]
    )


def test_repeated_idempotency_key_replays_turn(chat: Callable[..., TestResponse], upstream: Upstream) -> None:
    first, repeated = (chat(idempotency_key="once") for _ in range(2))
    assert first.status_code == repeated.status_code == 200
    assert (first.json or {})["turn"]["id"] == (repeated.json or {})["turn"]["id"]
    assert_problem(chat("something else", idempotency_key="once"), 422, "idempotency_mismatch")


def test_repeated_idempotency_key_retries_failed_turn(chat: Callable[..., TestResponse], upstream: Upstream) -> None:
    upstream.script = scripts.status(500)
    failed = chat(idempotency_key="twice")
    assert failed.status_code == 502, failed.text
    upstream.script = scripts.words()
    repeated = chat(idempotency_key="twice")
    assert repeated.status_code == 200
    assert (repeated.json or {})["turn"]["id"] == (failed.json or {})["turn_id"]


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now()"])
def test_ended_key_cannot_join_turn(
    chat: Callable[..., TestResponse], engine: Engine, key: Key, rows: Rows, user: LoggedInUser, change: str
) -> None:
    first = chat(idempotency_key="once")
    change_key(engine, key, change)
    assert_unauthenticated(chat(idempotency_key="once"), "API key has")
    assert_unauthenticated(chat(conversation_id=first.json["conversation"]["id"]), "API key has")  # type: ignore[index]
    assert len(rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_chat_without_scope_is_403(
    chat_client: FlaskClient, chat_app: Flask, user: LoggedInUser, chat: Callable[..., TestResponse], rows: Rows
) -> None:
    conversation = (chat().json or {})["conversation"]["id"]
    lacking = make_key(chat_app, user, set(KeyScope) - {KeyScope.CHAT})
    for body in ({}, {"conversation_id": conversation}, {"conversation_id": str(new_id())}):
        answer = chat_client.post("/api/chat", json={"message": "hello", **body}, headers=lacking.headers)
        assert "`chat`" in assert_problem(answer, 403, "not_allowed")["detail"]
    assert len(rows("SELECT 1 FROM messages WHERE user_id = :u", u=user.id)) == 2


def test_other_users_conversation_and_turn_are_404(
    chat_client: FlaskClient, chat_app: Flask, other_user: LoggedInUser, chat: Callable[..., TestResponse]
) -> None:
    mine = chat().json or {}
    theirs = make_key(chat_app, other_user)
    body = {"message": "hello", "conversation_id": mine["conversation"]["id"]}
    assert_problem(chat_client.post("/api/chat", json=body, headers=theirs.headers), 404, "not_found")
    assert_problem(chat_client.get(f"/api/turns/{mine['turn']['id']}", headers=theirs.headers), 404, "not_found")
    assert_problem(
        chat_client.post(f"/api/turns/{mine['turn']['id']}/cancel", headers=theirs.headers), 404, "not_found"
    )


def test_body_has_lower_limit_until_key_is_proven(
    chat_client: FlaskClient, chat: Callable[..., TestResponse], key: Key, user: LoggedInUser, upstream: Upstream
) -> None:
    """A forged key must not make the server parse a megabyte."""
    upstream.script = scripts.words(1)
    body = b'{"message": "hello", "x": 1}' + b" " * 262_144

    def post(headers: dict[str, str]) -> int:
        return chat_client.post("/api/chat", data=body, headers=headers, content_type="application/json").status_code

    assert post(user.headers) == 400
    assert post(key.headers) == 413
    assert chat().status_code == 200
    assert post(key.headers) == 400
