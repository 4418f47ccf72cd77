"""Races between requests, on real connections that wait for locks."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.ids import new_id
from tests.api.rows import add_messages, begin_turn, join_all, owned_rows, row_held, start_all
from tests.factories import LoggedInUser, make_conversation

URL = "/api/conversations"
ACTIONS = pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/archive")])

# The update of the conversation when a turn begins; the turn's own row is already inserted here.
TAKE = "UPDATE conversations SET running_attempt = :attempt WHERE user_id = :user_id AND id = :id"


@pytest.fixture
def send(flask_app: Flask, user: LoggedInUser) -> Callable[[str, str], Callable[[], Any]]:
    """Return a function that returns a function to send a request from another thread."""
    return lambda method, url: lambda: flask_app.test_client().open(url, method=method, headers=user.headers)


def insert_next_turn(engine: Engine, account: LoggedInUser, conversation: UUID, previous: UUID | None = None) -> UUID:
    """Insert a running turn whose attempt does not have the lease yet; `previous` has it."""
    attempt = begin_turn(engine, account, conversation)
    with engine.begin() as connection:
        connection.execute(text(TAKE), {"user_id": account.id, "id": conversation, "attempt": previous})
    return attempt


def test_parallel_deletions_one_is_404(
    engine: Engine, user: LoggedInUser, send: Callable[[str, str], Callable[[], Any]]
) -> None:
    conversation = make_conversation(engine, user)
    add_messages(engine, user, conversation, 10)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = start_all(*[send("DELETE", f"{URL}/{conversation}")] * 2)
        wait(2)
        join_all(threads)
    assert sorted(answer.status_code for answer in answers) == [204, 404]
    assert not any(owned_rows(engine, user).values())


@ACTIONS
def test_turn_that_begins_first_blocks_archive_and_delete(
    engine: Engine, user: LoggedInUser, send: Callable[[str, str], Callable[[], Any]], method: str, path: str
) -> None:
    """The request waits for the row of an idle conversation; when it gets the row, a turn has the lease."""
    conversation = make_conversation(engine, user)
    attempt = insert_next_turn(engine, user, conversation)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = start_all(send(method, f"{URL}/{conversation}{path}"))
        wait(1, TAKE, attempt=attempt)
        join_all(threads)
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(409, "conversation_busy")]
    (row,) = owned_rows(engine, user)["conversations"]
    assert (row[0]["status"], row[0]["running_attempt"]) == ("active", str(attempt))


@ACTIONS
def test_new_turn_on_stale_lease_blocks_archive_and_delete(
    engine: Engine, user: LoggedInUser, send: Callable[[str, str], Callable[[], Any]], method: str, path: str
) -> None:
    """The request has found a stale lease; before it gets the row, another turn closes that one and begins."""
    conversation = make_conversation(engine, user)
    stale = begin_turn(engine, user, conversation, silent_for=3600)
    attempt = insert_next_turn(engine, user, conversation, previous=stale)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = start_all(send(method, f"{URL}/{conversation}{path}"))
        wait(1, TAKE, attempt=attempt)
        join_all(threads)
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(409, "conversation_busy")]
    (row,) = owned_rows(engine, user)["conversations"]
    assert (row[0]["status"], row[0]["running_attempt"]) == ("active", str(attempt))


@ACTIONS
def test_ended_turn_does_not_block(
    engine: Engine, user: LoggedInUser, send: Callable[[str, str], Callable[[], Any]], method: str, path: str
) -> None:
    conversation = make_conversation(engine, user)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = start_all(send(method, f"{URL}/{conversation}{path}"))
        wait(1, TAKE, attempt=None)
        join_all(threads)
    assert answers[0].status_code == (204 if method == "DELETE" else 200)


def test_legal_hold_placed_first_blocks_delete(
    engine: Engine, user: LoggedInUser, send: Callable[[str, str], Callable[[], Any]]
) -> None:
    conversation = make_conversation(engine, user)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = start_all(send("DELETE", f"{URL}/{conversation}"))
        wait(1, "UPDATE conversations SET legal_hold = true WHERE user_id = :user_id AND id = :id")
        join_all(threads)
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(409, "conflict")]


def test_create_in_project_deleted_first_is_404(engine: Engine, flask_app: Flask, user: LoggedInUser) -> None:
    project = new_id()
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO projects (user_id, id, name) VALUES (:user_id, :id, 'Bot')"),
            {"user_id": user.id, "id": project},
        )
    body = {"project_id": str(project)}
    with row_held(engine, "projects", user, project) as wait:
        threads, answers = start_all(lambda: flask_app.test_client().post(URL, json=body, headers=user.headers))
        wait(1, "DELETE FROM projects WHERE user_id = :user_id AND id = :id")
        join_all(threads)
    assert [(answer.status_code, answer.json["detail"]) for answer in answers] == [(404, "There is no such project.")]
    assert not any(owned_rows(engine, user).values())


def test_parallel_prompts_do_not_exceed_limit(engine: Engine, flask_app: Flask, user: LoggedInUser) -> None:
    client = flask_app.test_client()
    project = client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"]
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO prompts (user_id, id, project_id, title, content, position)"
                " SELECT :user_id, gen_random_uuid(), :project, n::text, 'x', n FROM generate_series(1, 48) AS n"
            ),
            {"user_id": user.id, "project": project},
        )
    url, body = f"/api/projects/{project}/prompts", {"title": "x", "content": "x"}
    with row_held(engine, "projects", user, UUID(project)) as wait:
        threads, answers = start_all(*[lambda: flask_app.test_client().post(url, json=body, headers=user.headers)] * 4)
        wait(4)
        join_all(threads)
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]
    assert sorted(answer.json["position"] for answer in answers if answer.status_code == 201) == [49, 50]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert "at most 50 prompts" in refused.json["detail"]
