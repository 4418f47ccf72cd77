"""Bundled conversations through the API: reading, and unbundling before a write."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.services import search_index
from tests.api.conftest import events_of
from tests.api.rows import join_all, start_all, walk
from tests.bundling import UNUSUAL_MESSAGES, archive_all, make_idle, numbered_messages, storage_state, stored_messages
from tests.factories import LoggedInUser
from tests.fakes.scripts import status, words

URL = "/api/conversations"
Get = Callable[..., TestResponse]


@pytest.fixture
def get(client: FlaskClient, user: LoggedInUser) -> Get:
    """Return a function that gets a path below a conversation; keyword arguments are the query."""
    return lambda path, **query: client.get(f"{URL}{path}", query_string=query, headers=user.headers)


def everything_read(client: FlaskClient, user: LoggedInUser, conversation: UUID) -> list[Any]:
    """Return all that the API returns for a conversation, exports included, except its status."""
    url = f"{URL}/{conversation}"
    about = client.get(url, headers=user.headers).json
    exported = client.get(f"{url}/export", headers=user.headers).json
    markdown = client.get(f"{url}/export", query_string={"format": "markdown"}, headers=user.headers).text
    for part in (about, exported["conversation"]):
        part.pop("status")
    exported.pop("exported_at")
    lines = [line for line in markdown.splitlines() if "exported" not in line]
    pages = [
        walk(client, user, f"{url}/messages", order=order, limit=limit) for order in ("asc", "desc") for limit in (2, 7)
    ]
    return [about, exported, lines, *pages]


@pytest.mark.parametrize(
    "messages",
    [UNUSUAL_MESSAGES, numbered_messages(40), numbered_messages(1), []],
    ids=["all kinds", "many", "one", "none"],
)
def test_bundled_conversation_reads_as_before(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser, messages: list[dict[str, Any]]
) -> None:
    conversation = make_idle(engine, user, messages, title="Old")
    before = everything_read(client, user, conversation)
    archive_all(flask_app)
    assert storage_state(engine, conversation) == ("archived", "bundled", 0, 1)
    assert everything_read(client, user, conversation) == before


def test_bundled_conversation_is_listed_and_found(
    get: Get, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, [{"role": "user", "content": "the hippopotamus"}], title="Animals")
    archive_all(flask_app)
    assert get("").json["items"] == []
    for query in ({}, {"q": "hippopotamus"}, {"q": "animals"}):
        assert [item["id"] for item in get("", status="archived", **query).json["items"]] == [str(conversation)]


def test_new_title_updates_search_only(
    client: FlaskClient, get: Get, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, [{"role": "user", "content": "the hippopotamus"}])
    archive_all(flask_app)
    client.patch(f"{URL}/{conversation}", json={"title": "Zebra"}, headers=user.headers)
    with flask_app.app_context():
        assert search_index.index_conversation(user.id, conversation)
    for word in ("zebra", "hippopotamus"):
        assert len(get("", status="archived", q=word).json["items"]) == 1
    assert storage_state(engine, conversation) == ("archived", "bundled", 0, 1)


def test_unarchive_restores_messages_exactly(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, UNUSUAL_MESSAGES)
    before = stored_messages(engine, conversation)
    archive_all(flask_app)
    answer = client.post(f"{URL}/{conversation}/unarchive", headers=user.headers)
    assert (answer.status_code, answer.json["status"]) == (200, "active")
    assert answer.json["updated_at"].startswith("2020-01-01")
    assert stored_messages(engine, conversation) == before
    archive_all(flask_app)
    assert storage_state(engine, conversation) == ("active", "live", len(UNUSUAL_MESSAGES), 0)


def test_archive_request_keeps_messages_live(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3), updated_at="now")
    client.post(f"{URL}/{conversation}/archive", headers=user.headers)
    assert storage_state(engine, conversation) == ("archived", "live", 3, 0)
    bundled = make_idle(engine, user, numbered_messages(3))
    archive_all(flask_app)
    assert client.post(f"{URL}/{bundled}/archive", headers=user.headers).status_code == 200
    assert storage_state(engine, bundled) == ("archived", "bundled", 0, 1)


def test_unarchived_live_conversation_is_not_bundled(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3), status="archived")
    client.post(f"{URL}/{conversation}/unarchive", headers=user.headers)
    archive_all(flask_app)
    assert storage_state(engine, conversation) == ("active", "live", 3, 0)


def test_chat_in_bundled_conversation_continues_it(
    chat: Callable[..., TestResponse], flask_app: Flask, engine: Engine, user: LoggedInUser, upstream: Any
) -> None:
    conversation = make_idle(engine, user, numbered_messages(4))
    archive_all(flask_app)
    answer = chat("and now?", conversation_id=str(conversation))
    assert answer.status_code == 200, answer.json
    assert answer.json["message"]["position"] == 6
    assert storage_state(engine, conversation) == ("active", "live", 6, 0)
    sent = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert sent == ["message 1", "message 2", "message 3", "message 4", "and now?"]


def test_concurrent_chats_in_bundled_conversation_lose_nothing(
    chat: Callable[..., TestResponse], flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, UNUSUAL_MESSAGES)
    before = stored_messages(engine, conversation)
    archive_all(flask_app)
    with engine.connect() as connection:
        run = connection.execute(
            text("SELECT run_id FROM conversation_archives WHERE conversation_id = :c"), {"c": conversation}
        ).scalar_one()
    threads, answers = start_all(*[lambda: chat("me!", conversation_id=str(conversation))] * 20)
    join_all(threads)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 409}
    assert {answer.json["code"] for answer in answers if answer.status_code == 409} <= {"conversation_busy"}
    written = 2 * statuses.count(200)
    assert written >= 2
    assert storage_state(engine, conversation) == ("active", "live", len(UNUSUAL_MESSAGES) + written, 0)
    assert stored_messages(engine, conversation).startswith(before)
    with engine.connect() as connection:
        restored = connection.execute(text("SELECT restored FROM archive_runs WHERE id = :id"), {"id": run})
        assert restored.scalar_one() == 1


def test_failed_turn_in_bundle_is_retried(
    chat: Callable[..., TestResponse], flask_app: Flask, engine: Engine, user: LoggedInUser, upstream: Any
) -> None:
    upstream.script = status(400)
    failed = chat("hello", headers={"Idempotency-Key": "k"})
    conversation = UUID(failed.json["conversation_id"])
    age(engine, conversation)
    archive_all(flask_app)
    assert storage_state(engine, conversation)[1] == "bundled"
    upstream.script = words()
    retried = chat("hello", headers={"Idempotency-Key": "k"})
    assert retried.status_code == 200, retried.json
    assert storage_state(engine, conversation)[:3] == ("active", "live", 2)


def test_ended_turn_in_bundle_is_replayed(
    chat: Callable[..., TestResponse], chat_client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    first = chat("hello", headers={"Idempotency-Key": "k"}).json
    conversation = UUID(first["conversation"]["id"])
    age(engine, conversation)
    archive_all(flask_app)
    assert chat("hello", headers={"Idempotency-Key": "k"}).json == first
    events = events_of(chat_client.get(f"/api/turns/{first['turn']['id']}/events", headers=user.headers))
    assert events[-2][2]["message"] == first["message"]
    assert storage_state(engine, conversation)[1] == "bundled"


def test_delete_removes_bundle(client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    archive_all(flask_app)
    assert client.delete(f"{URL}/{conversation}", headers=user.headers).status_code == 204
    with engine.connect() as connection:
        left = connection.execute(
            text("SELECT FROM conversation_archives WHERE conversation_id = :c"), {"c": conversation}
        )
        assert left.all() == []


DAMAGES = {
    "a flipped bit": "bundle = set_byte(bundle, length(bundle) / 2, get_byte(bundle, length(bundle) / 2) # 1)",
    "its end": "bundle = substring(bundle FROM 1 FOR length(bundle) - 7)",
    "its beginning": "bundle = substring(bundle FROM 2)",
    "all of it": "bundle = ''",
    "wrong checksum": "sha256 = set_byte(sha256, 0, get_byte(sha256, 0) # 1)",
    "its count": "message_count = message_count + 1",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_bundle_is_503_and_unchanged(
    chat: Callable[..., TestResponse],
    client: FlaskClient,
    get: Get,
    flask_app: Flask,
    engine: Engine,
    user: LoggedInUser,
    damage: str,
) -> None:
    conversation = make_idle(engine, user, numbered_messages(50))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE conversation_archives SET {damage} WHERE conversation_id = :c"), {"c": conversation}
        )
    refused = [
        get(f"/{conversation}/messages"),
        get(f"/{conversation}/messages", order="desc", limit=1),
        get(f"/{conversation}/export"),
        get(f"/{conversation}/export", format="markdown"),
        client.post(f"{URL}/{conversation}/unarchive", headers=user.headers),
        chat("hello", conversation_id=str(conversation)),
    ]
    assert [(response.status_code, response.json["code"]) for response in refused] == [(503, "archive_damaged")] * 6
    assert storage_state(engine, conversation) == ("archived", "bundled", 0, 1)
    assert get(f"/{conversation}").json["message_count"] == 50
    assert client.delete(f"{URL}/{conversation}", headers=user.headers).status_code == 204


def test_bundle_of_other_conversation_is_detected(
    get: Get, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    one, other = (make_idle(engine, user, numbered_messages(3)) for _ in range(2))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE conversation_archives AS a"
                " SET bundle = b.bundle, sha256 = b.sha256, plain_bytes = b.plain_bytes"
                " FROM conversation_archives AS b WHERE a.conversation_id = :one AND b.conversation_id = :other"
            ),
            {"one": one, "other": other},
        )
    assert get(f"/{one}/messages").json["code"] == "archive_damaged"
    assert get(f"/{other}/messages").status_code == 200


def test_missing_bundle_is_503(
    get: Get, client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser
) -> None:
    conversation = make_idle(engine, user, numbered_messages(3))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM conversation_archives WHERE conversation_id = :c"), {"c": conversation})
    assert get(f"/{conversation}/messages").json["code"] == "archive_damaged"
    unarchived = client.post(f"{URL}/{conversation}/unarchive", headers=user.headers)
    assert (unarchived.status_code, unarchived.json["code"]) == (503, "archive_damaged")


def age(engine: Engine, conversation: UUID) -> None:
    """Make a conversation idle for years."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE conversations SET created_at = '2020-01-01', updated_at = '2020-01-01' WHERE id = :c"),
            {"c": conversation},
        )
