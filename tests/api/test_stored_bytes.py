"""The bytes that a user stores: counted after each way to change them, and limited; and a database without room."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.container import provider_services
from app.repositories import stored_bytes as sql
from app.services import conversation_deletion
from app.services.storage_room import KEY
from app.services.stored_bytes import set_limit
from ops.maintenance.stored_bytes import recount
from ops.runs.actors import Actor
from ops.users.erasure import erase
from tests.bundling import bundle_conversation
from tests.factories import PASSWORD, LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.waiting import wait_until

Chat = Callable[..., TestResponse]
Counted = Callable[[], int]
Rows = Callable[..., Any]
MESSAGE, ANSWER = "héllo", "word0 word1 word2 "
METADATA = 2  # bytes of {} in each message
TURN = len(MESSAGE.encode()) + len(ANSWER) + 2 * METADATA


@pytest.fixture
def counted(engine: Engine, user: LoggedInUser) -> Counted:
    """Return a function that returns the counted bytes, after it has compared them with the user's rows."""

    def counted() -> int:
        after = UUID(int=user.id.int - 1)
        with engine.connect() as connection:
            [row] = sql.COMPARE.all(connection, {"after": after, "batch": 1})
        assert row.user_id == user.id
        assert row.counted == row.actual
        return int(row.counted)

    return counted


@pytest.fixture
def send(chat_app: Flask, user: LoggedInUser) -> Chat:
    def send(method: str, path: str, body: Any = None) -> TestResponse:
        return chat_app.test_client().open(path, method=method, json=body, headers=user.headers)

    return send


@pytest.fixture
def talked(chat: Chat, upstream: Upstream) -> str:
    """Return a conversation with one turn."""
    upstream.script = scripts.words(3)
    return str(chat(MESSAGE).get_json()["turn"]["conversation_id"])


def test_turns_are_counted_and_their_deletion_too(
    chat: Chat, send: Chat, counted: Counted, talked: str, upstream: Upstream
) -> None:
    assert counted() == TURN
    chat(MESSAGE, conversation_id=talked)
    assert counted() == 2 * TURN
    upstream.script = scripts.cut(2)
    failed = chat(MESSAGE, headers={"Idempotency-Key": "k"})
    assert failed.status_code >= 500
    upstream.script = scripts.words(3)
    chat(MESSAGE, headers={"Idempotency-Key": "k"})
    before = counted()
    assert before > 3 * TURN  # with the partial answer
    assert send("DELETE", f"/api/conversations/{talked}").status_code == 204
    assert counted() == before - 2 * TURN


def test_long_conversation_deleted_in_steps_is_counted(
    chat: Chat, counted: Counted, talked: str, engine: Engine, user: LoggedInUser
) -> None:
    other = chat(MESSAGE).get_json()["turn"]["conversation_id"]
    with engine.begin() as connection:
        conversation_deletion.empty(connection, user.id, UUID(talked), end=3)
    assert counted() == TURN
    assert other


def test_bundle_counts_with_its_compressed_size(
    chat_app: Flask, chat: Chat, send: Chat, counted: Counted, engine: Engine, user: LoggedInUser
) -> None:
    long = "all work and no play " * 400
    conversation = chat(long).get_json()["turn"]["conversation_id"]
    live = counted()
    assert live > len(long)
    with chat_app.app_context():
        bundle_conversation(user.id, conversation)
    assert 0 < counted() < live / 5
    assert chat(MESSAGE, conversation_id=conversation).status_code == 200  # restores it
    assert counted() > live
    with chat_app.app_context():
        bundle_conversation(user.id, conversation)
    assert send("DELETE", f"/api/conversations/{conversation}").status_code == 204
    assert counted() == 0


def test_import_projects_prompts_and_metadata_are_counted(send: Chat, counted: Counted, talked: str) -> None:
    document = send("GET", f"/api/conversations/{talked}/export").get_json()
    imported = send("POST", "/api/conversations/import", document)
    assert imported.status_code == 201
    assert counted() == 2 * TURN
    project = send("POST", "/api/projects", {"name": "p", "description": "x" * 100}).get_json()["id"]
    path = f"/api/projects/{project}/prompts"
    prompt = send("POST", path, {"title": "t", "content": "y" * 200}).get_json()["id"]
    assert counted() == 2 * TURN + 302
    assert send("PATCH", f"{path}/{prompt}", {"content": "z" * 50}).status_code == 200
    assert counted() == 2 * TURN + 352  # the earlier version is kept
    assert send("PATCH", f"{path}/{prompt}", {"draft": "é" * 100}).status_code == 200
    assert counted() == 2 * TURN + 552
    assert send("PATCH", f"{path}/{prompt}", {"draft": None, "title": "u"}).status_code == 200
    assert send("PATCH", f"/api/projects/{project}", {"description": None}).status_code == 200
    assert counted() == 2 * TURN + 252
    assert send("PATCH", f"/api/conversations/{talked}", {"metadata": {"a": "b" * 100}}).status_code == 200
    assert counted() == 2 * TURN + 252 + 107
    assert send("DELETE", f"/api/projects/{project}").status_code == 204
    assert send("DELETE", f"/api/conversations/{talked}").status_code == 204
    assert counted() == TURN


def test_tasks_are_counted_and_limited(chat_app: Flask, send: Chat, counted: Counted, user: LoggedInUser) -> None:
    place = f"/api/tasks/{send('POST', '/api/tasks', {'title': 'héllo', 'description': 'x' * 100}).get_json()['id']}"
    assert counted() == 106
    send("PATCH", place, {"description": None})
    assert counted() == 6
    assert send("POST", f"{place}/complete").status_code == 200
    assert counted() == 6
    limit(chat_app, user, 6)
    refused = send("POST", "/api/tasks", {"title": "one more"})
    assert (refused.status_code, refused.get_json()["code"]) == (429, "storage_limit_reached")
    assert send("DELETE", place).status_code == 204
    assert counted() == 0
    assert send("POST", "/api/tasks", {"title": "one more"}).status_code == 201


def test_many_tasks_of_one_statement_are_counted_and_erased(
    chat_app: Flask, counted: Counted, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, rows: Rows
) -> None:
    """One change for each row would read all earlier versions of the counter: minutes for so many rows."""
    with engine.begin() as connection:
        for owner in (user, other_user):
            connection.execute(
                text(
                    "INSERT INTO tasks (user_id, id, title)"
                    " SELECT :u, gen_random_uuid(), 'x' FROM generate_series(1, 10000)"
                ),
                {"u": owner.id},
            )
        connection.execute(
            text("UPDATE tasks SET description = 'yy' WHERE user_id IN (:u, :o)"), {"u": user.id, "o": other_user.id}
        )
    assert counted() == 30_000
    with chat_app.app_context():
        receipt = erase(user_id=user.id, by=Actor(kind="command", name="t"), reason="asked for it")
    assert receipt.rows["tasks"] == 10_000
    assert rows("SELECT FROM stored_bytes WHERE user_id = :u", u=user.id) == []
    [left] = rows("SELECT sum(bytes) AS bytes FROM stored_bytes WHERE user_id = :u", u=other_user.id)
    assert left.bytes == 30_000


def test_erasure_leaves_no_count(
    chat_app: Flask, chat: Chat, talked: str, engine: Engine, user: LoggedInUser, rows: Callable[..., Any]
) -> None:
    with chat_app.app_context():
        receipt = erase(user_id=user.id, by=Actor(kind="command", name="t"), reason="asked for it")
    assert receipt.rows["messages"] == 2
    assert rows("SELECT FROM stored_bytes WHERE user_id = :u", u=user.id) == []


def test_turns_at_the_same_time_are_counted_and_wait_for_no_counter(
    make_chat_app: Callable[..., Flask], chat: Chat, counted: Counted, talked: str, engine: Engine, user: LoggedInUser
) -> None:
    hasty = make_chat_app(database={"lock_timeout_ms": 100}).test_client

    def talk(number: int) -> int:
        return hasty().post("/api/chat", json={"message": MESSAGE}, headers=user.headers).status_code

    with engine.connect() as other, other.begin():  # all counters of the user are locked
        other.execute(text("SELECT FROM stored_bytes WHERE user_id = :u FOR UPDATE"), {"u": user.id})
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(talk, range(24))) == {200}
    assert counted() == 25 * TURN


def limit(chat_app: Flask, user: LoggedInUser, max_bytes: int | None) -> None:
    with chat_app.app_context():
        set_limit(user.id, max_bytes, 10**9)


def test_user_at_the_limit_may_only_make_room(
    chat_app: Flask, chat: Chat, send: Chat, counted: Counted, talked: str, user: LoggedInUser, upstream: Upstream
) -> None:
    document = send("GET", f"/api/conversations/{talked}/export").get_json()
    upstream.script = scripts.cut(0)
    assert chat(MESSAGE, headers={"Idempotency-Key": "again"}).status_code >= 500
    upstream.script = scripts.words(3)
    limit(chat_app, user, TURN)
    before = counted()
    refused = [
        chat(MESSAGE),
        chat(MESSAGE, conversation_id=talked),
        chat(MESSAGE, headers={"Idempotency-Key": "again"}),
        send("POST", "/api/conversations/import", document),
        send("POST", "/api/conversations", {}),
        send("POST", "/api/projects", {"name": "p"}),
    ]
    for response in refused:
        assert (response.status_code, response.get_json()["code"]) == (429, "storage_limit_reached")
        assert f"of the {TURN} bytes" in response.get_json()["detail"]
    assert counted() == before
    storage = send("GET", "/api/auth/me").get_json()["storage"]
    assert storage == {"used_bytes": before, "max_bytes": TURN}
    assert send("DELETE", f"/api/conversations/{talked}").status_code == 204
    assert chat(MESSAGE).status_code == 200


def test_import_that_does_not_fit_is_refused(
    chat_app: Flask, send: Chat, counted: Counted, talked: str, user: LoggedInUser
) -> None:
    document = send("GET", f"/api/conversations/{talked}/export").get_json()
    document["messages"][0]["content"] = "x" * 5_000
    limit(chat_app, user, 5_000)
    response = send("POST", "/api/conversations/import", document)
    assert (response.status_code, response.get_json()["code"]) == (429, "storage_limit_reached")
    limit(chat_app, user, 6_000)
    assert send("POST", "/api/conversations/import", document).status_code == 201


@pytest.mark.parametrize(("own", "setting", "status"), [(0, 1, 200), (None, 1, 429), (None, 0, 200), (1, 0, 429)])
def test_own_limit_precedes_the_setting(
    make_chat_app: Callable[..., Flask],
    chat: Chat,
    talked: str,
    user: LoggedInUser,
    own: Any,
    setting: int,
    status: int,
) -> None:
    flask_app = make_chat_app(chat={"user_max_bytes": setting})
    limit(flask_app, user, own)
    response = flask_app.test_client().post("/api/chat", json={"message": MESSAGE}, headers=user.headers)
    assert response.status_code == status


@pytest.fixture(params=["disk", "database"])
def full_app(request: pytest.FixtureRequest, make_chat_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    """Return an application whose database has no room."""
    if request.param == "disk":
        return make_chat_app(database={"folder": tmp_path / "not" / "there", "min_free_bytes": 10**15})
    flask_app = make_chat_app(database={"max_bytes": 1_000_000})
    with flask_app.app_context():
        provider_services().runtime.put(KEY, {"database_bytes": 1_000_000}, None)
    return flask_app


def test_database_without_room_takes_nothing_new_and_ends_what_runs(
    full_app: Flask, chat: Chat, send: Chat, talked: str, user: LoggedInUser, counted: Counted, upstream: Upstream
) -> None:
    document = send("GET", f"/api/conversations/{talked}/export").get_json()
    replayed = chat(MESSAGE, headers={"Idempotency-Key": "done"}).get_json()
    upstream.script = scripts.cut(0)
    chat(MESSAGE, headers={"Idempotency-Key": "failed"})
    upstream.script = scripts.words(3)
    client, before = full_app.test_client(), counted()

    def full(method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        return client.open(path, method=method, json=body, headers={**user.headers, **headers})

    refused = [
        full("POST", "/api/chat", {"message": MESSAGE}),
        full("POST", "/api/chat", {"message": MESSAGE, "stream": True}),
        full("POST", "/api/chat", {"message": MESSAGE, "conversation_id": talked}),
        full("POST", "/api/chat", {"message": MESSAGE}, **{"Idempotency-Key": "failed"}),
        full("POST", "/api/conversations/import", document),
    ]
    for response in refused:
        assert (response.status_code, response.get_json()["code"]) == (507, "storage_full")
        assert response.content_type == "application/problem+json"
    assert counted() == before
    again = full("POST", "/api/chat", {"message": MESSAGE}, **{"Idempotency-Key": "done"})
    assert (again.status_code, again.get_json()["message"]) == (200, replayed["message"])
    assert full("POST", "/api/auth/login", {"email": user.email, "password": PASSWORD}).status_code == 200
    assert full("PATCH", f"/api/conversations/{talked}", {"title": "new"}).status_code == 200
    assert full("POST", f"/api/turns/{replayed['turn']['id']}/cancel").status_code == 202
    assert full("DELETE", f"/api/conversations/{talked}").status_code == 204
    with full_app.app_context():
        erase(user_id=user.id, by=Actor(kind="command", name="t"), reason="asked for it")


def test_running_turn_ends_after_the_database_is_full(
    make_chat_app: Callable[..., Flask], user: LoggedInUser, upstream: Upstream, rows: Callable[..., Any]
) -> None:
    flask_app = make_chat_app(database={"max_bytes": 1_000_000})
    runtime = flask_app.extensions["parley"].runtime
    with flask_app.app_context():
        runtime.put(KEY, {"database_bytes": 999_999}, None)
    upstream.script = scripts.words(20, pause=0.1)

    def talk() -> TestResponse:
        return flask_app.test_client().post("/api/chat", json={"message": MESSAGE}, headers=user.headers)

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(talk)
        wait_until(lambda: rows("SELECT FROM turns WHERE user_id = :u AND status = 'running'", u=user.id))
        with flask_app.app_context():
            runtime.put(KEY, {"database_bytes": 1_000_000}, None)
        wait_until(lambda: talk().status_code == 507)
        assert running.result().status_code == 200


def test_recount_finds_and_corrects_a_wrong_count(
    chat_app: Flask, chat: Chat, counted: Counted, talked: str, engine: Engine, user: LoggedInUser
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE stored_bytes SET bytes = bytes + 7 WHERE user_id = :u"), {"u": user.id})
    stop = threading.Event()

    def keep_talking() -> None:
        while not stop.is_set():
            chat(MESSAGE)

    with chat_app.app_context(), ThreadPoolExecutor(2) as threads:
        talking = threads.submit(keep_talking)
        planned = recount(dry_run=True, batch=10_000)
        assert planned.dry_run
        assert planned.wrong >= 1
        done = recount(batch=10_000)
        assert done.wrong == planned.wrong
        assert recount(batch=10_000).wrong == 0
        stop.set()
        talking.result()
    counted()
