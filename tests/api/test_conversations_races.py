"""What happens at the same time, on real connections that wait for one another's locks."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app.models.columns import new_id
from tests.api.rows import add_messages, at_once, begin_turn, ended, owned_rows, row_held
from tests.factories import Account, make_conversation

URL = "/api/conversations"
ACTIONS = pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/archive")])

# What **begin** does to the row that everybody waits for; its turn is already there in these tests.
TAKE = "UPDATE conversations SET running_attempt = :attempt WHERE user_id = :user_id AND id = :id"


@pytest.fixture
def send(flask_app: Flask, user: Account) -> Callable[[str, str], Callable[[], Any]]:
    """A request to be sent from a thread of its own."""
    return lambda method, url: lambda: flask_app.test_client().open(url, method=method, headers=user.headers)


def attempt_to_come(engine: Engine, account: Account, conversation: UUID, was: UUID | None = None) -> UUID:
    """A running turn whose attempt does not own the conversation yet: `was` does."""
    attempt = begin_turn(engine, account, conversation)
    with engine.begin() as connection:
        connection.execute(text(TAKE), {"user_id": account.id, "id": conversation, "attempt": was})
    return attempt


def test_of_two_deletions_one_finds_nothing_left(
    engine: Engine, user: Account, send: Callable[[str, str], Callable[[], Any]]
) -> None:
    conversation = make_conversation(engine, user)
    add_messages(engine, user, conversation, 10)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = at_once(*[send("DELETE", f"{URL}/{conversation}")] * 2)
        wait(2)
        ended(threads)
    assert sorted(answer.status_code for answer in answers) == [204, 404]
    assert not any(owned_rows(engine, user).values())


@ACTIONS
def test_a_turn_that_begins_meanwhile_wins(
    engine: Engine, user: Account, send: Callable[[str, str], Callable[[], Any]], method: str, path: str
) -> None:
    """The request found the conversation free and waits for its row; when it has the row, a turn owns it."""
    conversation = make_conversation(engine, user)
    attempt = attempt_to_come(engine, user, conversation)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = at_once(send(method, f"{URL}/{conversation}{path}"))
        wait(1, TAKE, attempt=attempt)
        ended(threads)
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(409, "conversation_busy")]
    (row,) = owned_rows(engine, user)["conversations"]
    assert (row[0]["status"], row[0]["running_attempt"]) == ("active", str(attempt))


@ACTIONS
def test_a_turn_that_takes_over_a_stale_lease_wins(
    engine: Engine, user: Account, send: Callable[[str, str], Callable[[], Any]], method: str, path: str
) -> None:
    """The request found the lease stale and goes for that one; meanwhile somebody else closed it and began."""
    conversation = make_conversation(engine, user)
    stale = begin_turn(engine, user, conversation, silent_for=3600)
    attempt = attempt_to_come(engine, user, conversation, was=stale)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = at_once(send(method, f"{URL}/{conversation}{path}"))
        wait(1, TAKE, attempt=attempt)
        ended(threads)
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(409, "conversation_busy")]
    (row,) = owned_rows(engine, user)["conversations"]
    assert (row[0]["status"], row[0]["running_attempt"]) == ("active", str(attempt))


@ACTIONS
def test_a_turn_that_ends_meanwhile_is_in_nobodys_way(
    engine: Engine, user: Account, send: Callable[[str, str], Callable[[], Any]], method: str, path: str
) -> None:
    conversation = make_conversation(engine, user)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = at_once(send(method, f"{URL}/{conversation}{path}"))
        wait(1, TAKE, attempt=None)
        ended(threads)
    assert answers[0].status_code == (204 if method == "DELETE" else 200)


def test_a_hold_that_is_laid_meanwhile_holds(
    engine: Engine, user: Account, send: Callable[[str, str], Callable[[], Any]]
) -> None:
    conversation = make_conversation(engine, user)
    with row_held(engine, "conversations", user, conversation) as wait:
        threads, answers = at_once(send("DELETE", f"{URL}/{conversation}"))
        wait(1, "UPDATE conversations SET legal_hold = true WHERE user_id = :user_id AND id = :id")
        ended(threads)
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(409, "conflict")]


def test_a_project_deleted_meanwhile_is_not_found(engine: Engine, flask_app: Flask, user: Account) -> None:
    project = new_id()
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO projects (user_id, id, name) VALUES (:user_id, :id, 'Bot')"),
            {"user_id": user.id, "id": project},
        )
    body = {"project_id": str(project)}
    with row_held(engine, "projects", user, project) as wait:
        threads, answers = at_once(lambda: flask_app.test_client().post(URL, json=body, headers=user.headers))
        wait(1, "DELETE FROM projects WHERE user_id = :user_id AND id = :id")
        ended(threads)
    assert [(answer.status_code, answer.json["detail"]) for answer in answers] == [(404, "There is no such project.")]
    assert not any(owned_rows(engine, user).values())


def test_two_prompts_at_once_cannot_overfill_a_project(engine: Engine, flask_app: Flask, user: Account) -> None:
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
        threads, answers = at_once(*[lambda: flask_app.test_client().post(url, json=body, headers=user.headers)] * 4)
        wait(4)
        ended(threads)
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]
    assert sorted(answer.json["position"] for answer in answers if answer.status_code == 201) == [49, 50]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert "at most 50 prompts" in refused.json["detail"]
