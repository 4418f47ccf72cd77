"""What creates something creates it once for each Idempotency-Key, and tells a repeated request its answer again."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.schemas.conversations import ConversationChange, ConversationSchema
from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.repositories.idempotency_keys import CLAIM
from app.services import conversations, idempotency
from ops.care.idempotency_keys import free_keys
from tests.api.keys import make_key, problem, statements_of
from tests.api.rows import at_once, ended, row_held
from tests.factories import Account

Rows = Callable[..., list[Any]]
Send = Callable[..., TestResponse]
PROJECT = {"name": "Heating advice", "settings": {"temperature": 0.2}}


@pytest.fixture
def send(client: FlaskClient, user: Account) -> Send:
    """POST as `user` under a key; `account` may be somebody else."""

    def send(path: str, body: dict[str, Any], key: str | None = "k", account: Account = user) -> TestResponse:
        headers = account.headers | ({"Idempotency-Key": key} if key is not None else {})
        return client.post(path, json=body, headers=headers)

    return send


@pytest.fixture
def projects(rows: Rows, user: Account) -> Callable[[], int]:
    """How many projects `user` has."""
    return lambda: len(rows("SELECT 1 FROM projects WHERE user_id = :u", u=user.id))


def told_again(again: TestResponse, first: TestResponse) -> None:
    """`again` must be what `first` was, to the byte, and say that it is."""
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.data, again.content_type) == (first.status_code, first.data, first.content_type)
    assert again.headers.get("Location") == first.headers.get("Location")


def test_the_same_request_is_answered_the_same_and_creates_nothing(send: Send, projects: Callable[[], int]) -> None:
    first = send("/api/projects", PROJECT)
    assert first.status_code == 201
    told_again(send("/api/projects", dict(reversed(PROJECT.items()))), first)  # the order of fields is no part of it
    told_again(send("/api/projects", PROJECT), first)
    assert projects() == 1


def test_without_a_key_each_request_is_one_of_its_own(send: Send, projects: Callable[[], int]) -> None:
    made = {send("/api/projects", PROJECT, key=None).get_json()["id"] for _ in range(2)}
    assert len(made) == projects() == 2


def test_another_request_under_the_same_key_is_refused(send: Send, projects: Callable[[], int]) -> None:
    first = send("/api/projects", PROJECT).get_json()["id"]
    problem(send("/api/projects", PROJECT | {"name": "Another"}), 422, "idempotency_mismatch")
    problem(send("/api/conversations", {}), 422, "idempotency_mismatch")
    prompt = {"title": "Tone", "content": "Be brief."}
    second = send("/api/projects", PROJECT, key="other").get_json()["id"]
    assert send(f"/api/projects/{first}/prompts", prompt, key="prompt").status_code == 201
    problem(send(f"/api/projects/{second}/prompts", prompt, key="prompt"), 422, "idempotency_mismatch")
    assert projects() == 2


def test_a_chats_key_is_in_the_same_namespace(send: Send, rows: Rows, user: Account) -> None:
    """Either way: one key, one request."""
    chat = send("/api/chat", {"message": "hello"}, key="chat")
    assert chat.status_code == 200
    problem(send("/api/projects", PROJECT, key="chat"), 422, "idempotency_mismatch")
    assert send("/api/projects", PROJECT, key="project").status_code == 201
    problem(send("/api/chat", {"message": "hello"}, key="project"), 422, "idempotency_mismatch")
    conversation = chat.get_json()["conversation"]["id"]
    more = {"message": "more", "conversation_id": conversation}
    problem(send("/api/chat", more, key="project"), 422, "idempotency_mismatch")
    assert send("/api/chat", {"message": "hello"}, key="chat").get_json() == chat.get_json()
    assert len(rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_keys_belong_to_their_user(send: Send, other_user: Account) -> None:
    mine, theirs = send("/api/projects", PROJECT), send("/api/projects", PROJECT, account=other_user)
    assert theirs.status_code == 201
    assert theirs.get_json()["id"] != mine.get_json()["id"]


def test_a_program_and_its_owner_share_their_keys(
    client: FlaskClient, flask_app: Flask, send: Send, user: Account
) -> None:
    first = send("/api/projects", PROJECT)
    headers = make_key(flask_app, user, ["write"]).headers | {"Idempotency-Key": "k"}
    told_again(client.post("/api/projects", json=PROJECT, headers=headers), first)
    headers = make_key(flask_app, user, ["read"]).headers | {"Idempotency-Key": "k"}
    problem(client.post("/api/projects", json=PROJECT, headers=headers), 403, "not_allowed")


@pytest.mark.parametrize("key", ["", "k" * 256, "schlüssel", "tab\there"])
def test_a_key_that_is_none_is_refused(send: Send, projects: Callable[[], int], key: str) -> None:
    refused = send("/api/projects", PROJECT, key=key.encode("latin-1").decode("latin-1"))
    assert "Idempotency-Key" in problem(refused, 400, "invalid_input")["detail"]
    assert projects() == 0


@pytest.mark.parametrize("key", ["k", "k" * 255, "a b", "'; --", "%s{}\\"])
def test_keys_of_all_lengths_and_characters(send: Send, key: str) -> None:
    first = send("/api/projects", PROJECT, key=key)
    assert first.status_code == 201
    told_again(send("/api/projects", PROJECT, key=key), first)


def test_what_was_refused_created_nothing_and_leaves_the_key_free(send: Send, rows: Rows, user: Account) -> None:
    problem(send("/api/projects", {"name": ""}), 400, "invalid_input")
    problem(send("/api/projects", PROJECT | {"provider": "nobody"}), 400, "invalid_input")  # found out within
    problem(send("/api/conversations", {"project_id": str(user.id)}), 404, "not_found")  # found out by the database
    assert rows("SELECT 1 FROM idempotency_keys WHERE user_id = :u", u=user.id) == []
    assert send("/api/projects", PROJECT).status_code == 201


@pytest.fixture(scope="module")
def fragile(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """An application with one more view: it creates a conversation, then fails the first time."""
    blueprint = Blueprint("fragile", __name__, access=Access.USER, description="Breaks")
    fails = iter([True])

    @blueprint.route("/fragile", methods=["POST"])
    @blueprint.arguments(ConversationChange)
    @blueprint.creates(ConversationSchema)
    def fragile(body: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        """Create a conversation"""
        created = conversations.create(caller().user_id, **body)
        if next(fails, False):
            raise ZeroDivisionError
        return created, {"Location": "/"}

    made = create_app(settings, [blueprint])
    yield made
    with made.app_context():
        db.engine.dispose()


def test_after_an_error_of_ours_the_same_request_runs(fragile: Flask, user: Account, rows: Rows) -> None:
    """The conversation had been stored when it happened, and a job asked for: all of it was undone."""
    client, jobs = fragile.test_client(), fragile.extensions["jobs"]
    headers = user.headers | {"Idempotency-Key": "k"}

    def ask() -> TestResponse:
        return client.post("/fragile", json={"title": "Once"}, headers=headers)

    problem(ask(), 500, "internal_error")
    assert rows("SELECT 1 FROM conversations WHERE user_id = :u", u=user.id) == []
    assert rows("SELECT 1 FROM idempotency_keys WHERE user_id = :u", u=user.id) == []
    assert jobs.counts["dropped"] == 0  # there is no broker: what is asked for is dropped, and counted
    first = ask()
    assert (first.status_code, jobs.counts["dropped"]) == (201, 1)
    told_again(ask(), first)
    assert (len(rows("SELECT 1 FROM conversations WHERE user_id = :u", u=user.id)), jobs.counts["dropped"]) == (1, 1)


def test_what_goes_past_the_transaction_is_found_out(flask_app: Flask, user: Account) -> None:
    with flask_app.app_context(), pytest.raises(RuntimeError, match="transaction"):
        idempotency.once(user.id, "k", b"\0" * 32, lambda: idempotency.Answer(201, "{}"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/projects", PROJECT),
        ("/api/conversations", {"title": "Once"}),
        ("/api/projects/{project}/prompts", {"title": "Tone", "content": "Be brief."}),
    ],
)
def test_fifty_duplicates_at_once_create_one(
    flask_app: Flask, send: Send, user: Account, rows: Rows, path: str, body: dict[str, Any]
) -> None:
    path = path.format(project=send("/api/projects", PROJECT, key=None).get_json()["id"])
    table = path.rpartition("/")[2]
    before = len(rows(f"SELECT 1 FROM {table} WHERE user_id = :u", u=user.id))
    headers = user.headers | {"Idempotency-Key": "fifty"}
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: flask_app.test_client().post(path, json=body, headers=headers), range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.data for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count("true") == 49
    assert len(rows(f"SELECT 1 FROM {table} WHERE user_id = :u", u=user.id)) == before + 1


def test_a_duplicate_waits_for_the_first_and_is_told_its_answer(
    flask_app: Flask, engine: Engine, send: Send, user: Account, rows: Rows
) -> None:
    project = send("/api/projects", PROJECT, key=None).get_json()["id"]
    headers = user.headers | {"Idempotency-Key": "slow"}

    def ask() -> TestResponse:
        body = {"title": "Tone", "content": "Be brief."}
        return flask_app.test_client().post(f"/api/projects/{project}/prompts", json=body, headers=headers)

    with row_held(engine, "projects", user, project) as wait:
        threads, answers = at_once(ask, ask)
        wait(2)
    ended(threads)
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].data == answers[1].data
    assert len(rows("SELECT 1 FROM prompts WHERE user_id = :u", u=user.id)) == 1


def test_a_duplicate_of_one_that_takes_too_long_may_come_again(
    make_chat_app: Callable[..., Flask], engine: Engine, user: Account, projects: Callable[[], int]
) -> None:
    hasty, headers = make_chat_app(database={"lock_timeout_ms": 100}), user.headers | {"Idempotency-Key": "slow"}

    def ask() -> TestResponse:
        return hasty.test_client().post("/api/projects", json=PROJECT, headers=headers)

    with engine.connect() as first:  # it has claimed the key, and takes its time
        parameters = {"user_id": user.id, "key": "slow", "request_hash": b"\0" * 32, "keep": 60}
        assert CLAIM.one(first, parameters) is not None
        busy = ask()
        problem(busy, 409, "request_under_way")
        assert busy.headers["Retry-After"] == "1"
        first.rollback()
    assert ask().status_code == 201
    assert projects() == 1


def test_a_key_is_free_again_once_its_day_is_over(
    flask_app: Flask, engine: Engine, send: Send, projects: Callable[[], int], user: Account
) -> None:
    send("/api/projects", PROJECT)
    with engine.begin() as connection:
        [kept] = connection.execute(
            text("SELECT expires_at - created_at FROM idempotency_keys WHERE user_id = :u"), {"u": user.id}
        ).scalars()
        assert kept == idempotency.KEEP
        connection.execute(
            text("UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE user_id = :u"),
            {"u": user.id},
        )
    new = send("/api/projects", PROJECT | {"name": "New"})  # even before the purge has been
    assert new.status_code == 201
    with flask_app.app_context():
        free_keys()
    told_again(send("/api/projects", PROJECT | {"name": "New"}), new)
    assert projects() == 2


def test_it_costs_two_statements_more(engine: Engine, send: Send) -> None:
    with statements_of(engine) as seen:
        send("/api/projects", PROJECT)
    assert [name for name in seen if name != "sessions.identify"] == [
        "idempotency_keys.claim",
        "projects.add",
        "idempotency_keys.answer",
    ]
    seen.clear()
    with statements_of(engine) as seen:
        send("/api/projects", PROJECT)
    assert [name for name in seen if name != "sessions.identify"] == ["idempotency_keys.claim", "idempotency_keys.get"]
