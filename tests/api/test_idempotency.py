"""`Idempotency-Key` on requests that create an object: created once, and the response is replayed."""

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
from ops.maintenance.idempotency_keys import purge_idempotency_keys
from tests.api.keys import make_key, statements_of
from tests.api.responses import assert_problem
from tests.api.rows import join_all, row_held, start_all
from tests.factories import LoggedInUser

Rows = Callable[..., list[Any]]
Send = Callable[..., TestResponse]
PROJECT = {"name": "Heating advice", "settings": {"temperature": 0.2}}


@pytest.fixture
def send(client: FlaskClient, user: LoggedInUser) -> Send:
    """Return a function that posts with a key, as `user` or another `account`."""

    def send(path: str, body: dict[str, Any], key: str | None = "k", account: LoggedInUser = user) -> TestResponse:
        headers = account.headers | ({"Idempotency-Key": key} if key is not None else {})
        return client.post(path, json=body, headers=headers)

    return send


@pytest.fixture
def projects(rows: Rows, user: LoggedInUser) -> Callable[[], int]:
    """Return a function that counts the projects of `user`."""
    return lambda: len(rows("SELECT 1 FROM projects WHERE user_id = :u", u=user.id))


def assert_replayed(repeated: TestResponse, first: TestResponse) -> None:
    """Assert that `repeated` equals `first` and is marked as replayed."""
    assert "Idempotency-Replayed" not in first.headers
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert (repeated.status_code, repeated.data, repeated.content_type) == (
        first.status_code,
        first.data,
        first.content_type,
    )
    assert repeated.headers.get("Location") == first.headers.get("Location")


def test_repeated_request_is_replayed(send: Send, projects: Callable[[], int]) -> None:
    first = send("/api/projects", PROJECT)
    assert first.status_code == 201
    assert_replayed(
        send("/api/projects", dict(reversed(PROJECT.items()))), first
    )  # the order of fields does not matter
    assert_replayed(send("/api/projects", PROJECT), first)
    assert projects() == 1


def test_requests_without_key_are_independent(send: Send, projects: Callable[[], int]) -> None:
    created = {send("/api/projects", PROJECT, key=None).get_json()["id"] for _ in range(2)}
    assert len(created) == projects() == 2


def test_different_request_with_same_key_is_422(send: Send, projects: Callable[[], int]) -> None:
    first = send("/api/projects", PROJECT).get_json()["id"]
    assert_problem(send("/api/projects", PROJECT | {"name": "Another"}), 422, "idempotency_mismatch")
    assert_problem(send("/api/conversations", {}), 422, "idempotency_mismatch")
    prompt = {"title": "Tone", "content": "Be brief."}
    second = send("/api/projects", PROJECT, key="other").get_json()["id"]
    assert send(f"/api/projects/{first}/prompts", prompt, key="prompt").status_code == 201
    assert_problem(send(f"/api/projects/{second}/prompts", prompt, key="prompt"), 422, "idempotency_mismatch")
    assert projects() == 2


def test_keys_of_chat_and_other_requests_share_namespace(send: Send, rows: Rows, user: LoggedInUser) -> None:
    """In both orders."""
    chat = send("/api/chat", {"message": "hello"}, key="chat")
    assert chat.status_code == 200
    assert_problem(send("/api/projects", PROJECT, key="chat"), 422, "idempotency_mismatch")
    assert send("/api/projects", PROJECT, key="project").status_code == 201
    assert_problem(send("/api/chat", {"message": "hello"}, key="project"), 422, "idempotency_mismatch")
    conversation = chat.get_json()["conversation"]["id"]
    more = {"message": "more", "conversation_id": conversation}
    assert_problem(send("/api/chat", more, key="project"), 422, "idempotency_mismatch")
    assert send("/api/chat", {"message": "hello"}, key="chat").get_json() == chat.get_json()
    assert len(rows("SELECT 1 FROM turns WHERE user_id = :u", u=user.id)) == 1


def test_keys_are_scoped_to_user(send: Send, other_user: LoggedInUser) -> None:
    mine, theirs = send("/api/projects", PROJECT), send("/api/projects", PROJECT, account=other_user)
    assert theirs.status_code == 201
    assert theirs.get_json()["id"] != mine.get_json()["id"]


def test_api_key_and_session_share_idempotency_keys(
    client: FlaskClient, flask_app: Flask, send: Send, user: LoggedInUser
) -> None:
    first = send("/api/projects", PROJECT)
    headers = make_key(flask_app, user, ["write"]).headers | {"Idempotency-Key": "k"}
    assert_replayed(client.post("/api/projects", json=PROJECT, headers=headers), first)
    headers = make_key(flask_app, user, ["read"]).headers | {"Idempotency-Key": "k"}
    assert_problem(client.post("/api/projects", json=PROJECT, headers=headers), 403, "not_allowed")


@pytest.mark.parametrize("key", ["", "k" * 256, "schlüssel", "tab\there"])
def test_malformed_key_is_400(send: Send, projects: Callable[[], int], key: str) -> None:
    refused = send("/api/projects", PROJECT, key=key.encode("latin-1").decode("latin-1"))
    assert "Idempotency-Key" in assert_problem(refused, 400, "invalid_input")["detail"]
    assert projects() == 0


@pytest.mark.parametrize("key", ["k", "k" * 255, "a b", "'; --", "%s{}\\"])
def test_valid_keys_are_accepted(send: Send, key: str) -> None:
    first = send("/api/projects", PROJECT, key=key)
    assert first.status_code == 201
    assert_replayed(send("/api/projects", PROJECT, key=key), first)


def test_refused_request_leaves_key_unused(send: Send, rows: Rows, user: LoggedInUser) -> None:
    assert_problem(send("/api/projects", {"name": ""}), 400, "invalid_input")
    assert_problem(
        send("/api/projects", PROJECT | {"provider": "nobody"}), 400, "invalid_input"
    )  # refused by the service
    assert_problem(
        send("/api/conversations", {"project_id": str(user.id)}), 404, "not_found"
    )  # refused by the database
    assert rows("SELECT 1 FROM idempotency_keys WHERE user_id = :u", u=user.id) == []
    assert send("/api/projects", PROJECT).status_code == 201


@pytest.fixture(scope="module")
def fragile(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """Yield an application with a view that creates a conversation, and fails afterwards the first time."""
    blueprint = Blueprint("fragile", __name__, access=Access.USER, description="Breaks")
    fails = iter([True])

    @blueprint.route("/fragile", methods=["POST"])
    @blueprint.arguments(ConversationChange)
    @blueprint.creates(ConversationSchema)
    def fragile(body: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        """Create a conversation."""
        created = conversations.create(caller().user_id, **body)
        if next(fails, False):
            raise ZeroDivisionError
        return created, {"Location": "/"}

    created = create_app(settings, [blueprint])
    yield created
    with created.app_context():
        db.engine.dispose()


def test_repeated_request_runs_after_internal_error(fragile: Flask, user: LoggedInUser, rows: Rows) -> None:
    """The error comes after storing and enqueuing a job; both are undone."""
    client, jobs = fragile.test_client(), fragile.extensions["jobs"]
    headers = user.headers | {"Idempotency-Key": "k"}

    def send_request() -> TestResponse:
        return client.post("/fragile", json={"title": "Once"}, headers=headers)

    assert_problem(send_request(), 500, "internal_error")
    assert rows("SELECT 1 FROM conversations WHERE user_id = :u", u=user.id) == []
    assert rows("SELECT 1 FROM idempotency_keys WHERE user_id = :u", u=user.id) == []
    assert jobs.counts["dropped"] == 0  # without a broker, an enqueued job is dropped and counted
    first = send_request()
    assert (first.status_code, jobs.counts["dropped"]) == (201, 1)
    assert_replayed(send_request(), first)
    assert (len(rows("SELECT 1 FROM conversations WHERE user_id = :u", u=user.id)), jobs.counts["dropped"]) == (1, 1)


def test_store_outside_of_unit_of_work_is_detected(flask_app: Flask, user: LoggedInUser) -> None:
    with flask_app.app_context(), pytest.raises(RuntimeError, match="transaction"):
        idempotency.run_once(user.id, "k", b"\0" * 32, lambda: idempotency.StoredResponse(201, "{}"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/projects", PROJECT),
        ("/api/conversations", {"title": "Once"}),
        ("/api/tasks", {"title": "Once"}),
        ("/api/projects/{project}/prompts", {"title": "Tone", "content": "Be brief."}),
    ],
)
def test_concurrent_duplicates_create_once(
    flask_app: Flask, send: Send, user: LoggedInUser, rows: Rows, path: str, body: dict[str, Any]
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


def test_duplicate_waits_for_first_response(
    flask_app: Flask, engine: Engine, send: Send, user: LoggedInUser, rows: Rows
) -> None:
    project = send("/api/projects", PROJECT, key=None).get_json()["id"]
    headers = user.headers | {"Idempotency-Key": "slow"}

    def send_request() -> TestResponse:
        body = {"title": "Tone", "content": "Be brief."}
        return flask_app.test_client().post(f"/api/projects/{project}/prompts", json=body, headers=headers)

    with row_held(engine, "projects", user, project) as wait:
        threads, answers = start_all(send_request, send_request)
        wait(2)
    join_all(threads)
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].data == answers[1].data
    assert len(rows("SELECT 1 FROM prompts WHERE user_id = :u", u=user.id)) == 1


def test_duplicate_of_slow_request_is_409(
    make_chat_app: Callable[..., Flask], engine: Engine, user: LoggedInUser, projects: Callable[[], int]
) -> None:
    hasty, headers = make_chat_app(database={"lock_timeout_ms": 100}), user.headers | {"Idempotency-Key": "slow"}

    def send_request() -> TestResponse:
        return hasty.test_client().post("/api/projects", json=PROJECT, headers=headers)

    with engine.connect() as first:  # holds the key in an open transaction
        parameters = {"user_id": user.id, "key": "slow", "request_hash": b"\0" * 32, "keep": 60}
        assert CLAIM.one(first, parameters) is not None
        busy = send_request()
        assert_problem(busy, 409, "request_under_way")
        assert busy.headers["Retry-After"] == "1"
        first.rollback()
    assert send_request().status_code == 201
    assert projects() == 1


def test_expired_key_can_be_used_again(
    flask_app: Flask, engine: Engine, send: Send, projects: Callable[[], int], user: LoggedInUser
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
    new = send("/api/projects", PROJECT | {"name": "New"})  # also before the purge
    assert new.status_code == 201
    with flask_app.app_context():
        purge_idempotency_keys()
    assert_replayed(send("/api/projects", PROJECT | {"name": "New"}), new)
    assert projects() == 2


def test_key_costs_two_statements(engine: Engine, send: Send) -> None:
    with statements_of(engine) as seen:
        send("/api/projects", PROJECT)
    assert [name for name in seen if name != "sessions.identify"] == [
        "idempotency_keys.claim",
        "stored_bytes.get",  # the limit of stored bytes
        "projects.add",
        "idempotency_keys.store_response",
    ]
    seen.clear()
    with statements_of(engine) as seen:
        send("/api/projects", PROJECT)
    assert [name for name in seen if name != "sessions.identify"] == ["idempotency_keys.claim", "idempotency_keys.get"]
