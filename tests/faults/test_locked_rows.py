"""Requests that wait for a row which another session holds: a 503 that says what is locked, and nothing else."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from tests.bundling import bundle_conversation
from tests.factories import LoggedInUser

Send = Callable[..., TestResponse]


@dataclass
class Things:
    """Objects of a user: ids by name, and a function that sends a request of the user."""

    send: Send
    ids: dict[str, Any] = field(default_factory=dict)


# A slow wait ends by lock_timeout, an impatient one by statement_timeout.
TIMEOUTS = {
    "lock_timeout": {"lock_timeout_ms": 200, "statement_timeout_ms": 15_000},
    "statement_timeout": {"lock_timeout_ms": 15_000, "statement_timeout_ms": 300},
}


@pytest.fixture(params=TIMEOUTS)
def impatient_app(request: pytest.FixtureRequest, make_chat_app: Callable[..., Flask]) -> Flask:
    return make_chat_app(database=TIMEOUTS[request.param])


@pytest.fixture
def things(
    impatient_app: Flask, chat: Send, chat_app: Flask, user: LoggedInUser, engine: Engine, rows: Callable[..., Any]
) -> Things:
    client = impatient_app.test_client()

    def send(method: str, path: str, body: Any = None, headers: Any = ()) -> TestResponse:
        return client.open(path, method=method, json=body, headers={**user.headers, **dict(headers)})

    things = Things(send)
    turn = chat("hello").get_json()["turn"]
    project = send("POST", "/api/projects", {"name": "P"}).get_json()["id"]
    prompt = send("POST", f"/api/projects/{project}/prompts", {"title": "T", "content": "C"}).get_json()["id"]
    things.ids = {"conversation": turn["conversation_id"], "turn": turn["id"], "project": project, "prompt": prompt}
    return things


@contextmanager
def held(engine: Engine, table: str, column: str, value: Any) -> Iterator[None]:
    """Hold the rows of a table, as a long transaction does."""
    with engine.connect() as other, other.begin():
        other.execute(text(f"SELECT FROM {table} WHERE {column} = :value FOR UPDATE"), {"value": value})
        yield


def assert_locked(response: TestResponse, noun: str) -> None:
    problem = response.get_json()
    assert (response.status_code, problem["code"]) == (503, "locked"), problem
    reason = "is locked by another operation, so nothing was saved; try again in a moment."
    assert problem["detail"] == f"The {noun} {reason}"
    assert response.headers["Retry-After"] == "1"
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}


CONVERSATION: list[tuple[str, str, Any]] = [
    ("POST", "/api/chat", {"message": "again", "conversation_id": "{conversation}"}),
    ("PATCH", "/api/conversations/{conversation}", {"title": "new"}),
    ("POST", "/api/conversations/{conversation}/archive", None),
    ("POST", "/api/conversations/{conversation}/unarchive", None),
    ("DELETE", "/api/conversations/{conversation}", None),
]
PROJECT: list[tuple[str, str, Any]] = [
    ("PATCH", "/api/projects/{project}", {"name": "new"}),
    ("DELETE", "/api/projects/{project}", None),
    ("POST", "/api/projects/{project}/prompts", {"title": "T", "content": "C"}),
    ("POST", "/api/chat", {"message": "in the project", "project_id": "{project}"}),
    ("PATCH", "/api/projects/{project}/prompts/{prompt}", {"title": "new"}),
    ("DELETE", "/api/projects/{project}/prompts/{prompt}", None),
]


def filled(value: Any, ids: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: filled(entry, ids) for name, entry in value.items()}
    return value.format(**ids) if isinstance(value, str) else value


@pytest.mark.parametrize(("method", "path", "body"), CONVERSATION)
def test_locked_conversation_is_named(things: Things, engine: Engine, method: str, path: str, body: Any) -> None:
    with held(engine, "conversations", "id", things.ids["conversation"]):
        assert_locked(things.send(method, filled(path, things.ids), filled(body, things.ids)), "conversation")
    assert things.send(method, filled(path, things.ids), filled(body, things.ids)).status_code in (200, 204)


@pytest.mark.parametrize(("method", "path", "body"), PROJECT)
def test_locked_project_is_named(things: Things, engine: Engine, method: str, path: str, body: Any) -> None:
    table = "prompts" if "{prompt}" in path else "projects"
    with held(engine, table, "id", things.ids[table.removesuffix("s")]):
        assert_locked(things.send(method, filled(path, things.ids), filled(body, things.ids)), "project")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PATCH", "", {"title": "new"}), ("POST", "/complete", None), ("DELETE", "", None)],
)
def test_locked_task_is_named(things: Things, engine: Engine, method: str, path: str, body: Any) -> None:
    made = things.send("POST", "/api/tasks", {"title": "Sleep"})
    place = f"/api/tasks/{(made.json or {})['id']}{path}"
    with held(engine, "tasks", "id", (made.json or {})["id"]):
        assert_locked(things.send(method, place, body), "task")
    assert things.send(method, place, body).status_code in (200, 204)


def test_task_of_locked_account_is_refused(things: Things, engine: Engine, user: LoggedInUser) -> None:
    with held(engine, "users", "id", user.id):
        assert_locked(things.send("POST", "/api/tasks", {"title": "Sleep"}), "account")


def test_locked_turn_is_named_as_conversation(things: Things, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE turns SET status = 'running', finished_at = NULL WHERE id = :t"), {"t": things.ids["turn"]}
        )
    with held(engine, "turns", "id", things.ids["turn"]):
        assert_locked(things.send("POST", f"/api/turns/{things.ids['turn']}/cancel"), "conversation")
        assert_locked(things.send("DELETE", f"/api/conversations/{things.ids['conversation']}"), "conversation")


def test_second_waiter_in_the_queue_of_a_row_gets_the_same_error(
    make_chat_app: Callable[..., Flask], things: Things, engine: Engine, user: LoggedInUser
) -> None:
    """PostgreSQL names the row only in the error of the first waiter."""
    slow = make_chat_app(database={"lock_timeout_ms": 2_000})

    def rename(flask_app: Flask) -> TestResponse:
        path = f"/api/conversations/{things.ids['conversation']}"
        return flask_app.test_client().patch(path, json={"title": "new"}, headers=user.headers)

    with held(engine, "conversations", "id", things.ids["conversation"]), ThreadPoolExecutor(4) as threads:
        for response in threads.map(rename, [slow] * 4):
            assert_locked(response, "conversation")


def test_locked_bundle_is_named_as_conversation(
    things: Things, chat_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = things.ids["conversation"]
    with chat_app.app_context():
        bundle_conversation(user.id, conversation)
    with held(engine, "conversations", "id", conversation):
        for method, path, body in CONVERSATION:
            if "archive" not in path or "unarchive" in path:
                response = things.send(method, filled(path, things.ids), filled(body, things.ids))
                assert_locked(response, "conversation")


def test_locked_account_is_named(things: Things, engine: Engine, user: LoggedInUser) -> None:
    with held(engine, "users", "id", user.id):
        assert_locked(things.send("PATCH", "/api/auth/me", {"name": "New"}), "account")
        assert_locked(things.send("POST", "/api/projects", {"name": "P"}), "account")
        assert_locked(things.send("POST", "/api/chat", {"message": "new"}), "account")


def test_locked_session_is_named_as_account(things: Things, engine: Engine, user: LoggedInUser) -> None:
    with held(engine, "sessions", "id", user.session_id):
        assert_locked(things.send("POST", "/api/auth/logout"), "account")
