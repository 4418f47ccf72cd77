"""Archived conversations, through the API: read as before, and live again when they are written to."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.services import search
from tests.api.conftest import events_of
from tests.api.rows import at_once, ended, walk
from tests.archived import EVERYTHING, archive_all, make_idle, place, plain, stored
from tests.factories import Account
from tests.fakes.scripts import status, words

URL = "/api/conversations"
Get = Callable[..., TestResponse]


@pytest.fixture
def get(client: FlaskClient, user: Account) -> Get:
    """GET below a conversation; keyword arguments are the query."""
    return lambda path, **query: client.get(f"{URL}{path}", query_string=query, headers=user.headers)


def everything_read(client: FlaskClient, user: Account, conversation: UUID) -> list[Any]:
    """All that the API says of a conversation and its messages, exports included, but for its status."""
    url = f"{URL}/{conversation}"
    about = client.get(url, headers=user.headers).json
    exported = client.get(f"{url}/export", headers=user.headers).json
    markdown = client.get(f"{url}/export", query_string={"format": "markdown"}, headers=user.headers).text
    for each in (about, exported["conversation"]):
        each.pop("status")
    exported.pop("exported_at")
    lines = [line for line in markdown.splitlines() if "exported" not in line]
    pages = [
        walk(client, user, f"{url}/messages", order=order, limit=limit) for order in ("asc", "desc") for limit in (2, 7)
    ]
    return [about, exported, lines, *pages]


@pytest.mark.parametrize("messages", [EVERYTHING, plain(40), plain(1), []], ids=["all kinds", "many", "one", "none"])
def test_it_reads_as_before(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: Account, messages: list[dict[str, Any]]
) -> None:
    conversation = make_idle(engine, user, messages, title="Old")
    before = everything_read(client, user, conversation)
    archive_all(flask_app)
    assert place(engine, conversation) == ("archived", "bundled", 0, 1)
    assert everything_read(client, user, conversation) == before


def test_it_is_listed_under_archived_and_still_found_by_its_words(
    get: Get, flask_app: Flask, engine: Engine, user: Account
) -> None:
    conversation = make_idle(engine, user, [{"role": "user", "content": "the hippopotamus"}], title="Animals")
    archive_all(flask_app)
    assert get("").json["items"] == []
    for query in ({}, {"q": "hippopotamus"}, {"q": "animals"}):
        assert [item["id"] for item in get("", status="archived", **query).json["items"]] == [str(conversation)]


def test_a_new_title_changes_what_it_is_found_by_and_nothing_else(
    client: FlaskClient, get: Get, flask_app: Flask, engine: Engine, user: Account
) -> None:
    conversation = make_idle(engine, user, [{"role": "user", "content": "the hippopotamus"}])
    archive_all(flask_app)
    client.patch(f"{URL}/{conversation}", json={"title": "Zebra"}, headers=user.headers)
    with flask_app.app_context():
        assert search.index_conversation(user.id, conversation)
    for each in ("zebra", "hippopotamus"):
        assert len(get("", status="archived", q=each).json["items"]) == 1
    assert place(engine, conversation) == ("archived", "bundled", 0, 1)


def test_unarchiving_brings_it_back_to_the_last_byte_and_for_a_while(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: Account
) -> None:
    conversation = make_idle(engine, user, EVERYTHING)
    before = stored(engine, conversation)
    archive_all(flask_app)
    answer = client.post(f"{URL}/{conversation}/unarchive", headers=user.headers)
    assert (answer.status_code, answer.json["status"]) == (200, "active")
    assert answer.json["updated_at"].startswith("2020-01-01")
    assert stored(engine, conversation) == before
    archive_all(flask_app)
    assert place(engine, conversation) == ("active", "live", len(EVERYTHING), 0)


def test_archiving_by_hand_moves_no_message(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: Account
) -> None:
    conversation = make_idle(engine, user, plain(3), updated_at="now")
    client.post(f"{URL}/{conversation}/archive", headers=user.headers)
    assert place(engine, conversation) == ("archived", "live", 3, 0)
    bundled = make_idle(engine, user, plain(3))
    archive_all(flask_app)
    assert client.post(f"{URL}/{bundled}/archive", headers=user.headers).status_code == 200
    assert place(engine, bundled) == ("archived", "bundled", 0, 1)


def test_what_was_unarchived_while_it_was_live_is_left_alone(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: Account
) -> None:
    conversation = make_idle(engine, user, plain(3), status="archived")
    client.post(f"{URL}/{conversation}/unarchive", headers=user.headers)
    archive_all(flask_app)
    assert place(engine, conversation) == ("active", "live", 3, 0)


def test_writing_to_it_goes_on_where_it_ended(
    chat: Callable[..., TestResponse], flask_app: Flask, engine: Engine, user: Account, upstream: Any
) -> None:
    conversation = make_idle(engine, user, plain(4))
    archive_all(flask_app)
    answer = chat("and now?", conversation_id=str(conversation))
    assert answer.status_code == 200, answer.json
    assert answer.json["message"]["position"] == 6
    assert place(engine, conversation) == ("active", "live", 6, 0)
    sent = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert sent == ["message 1", "message 2", "message 3", "message 4", "and now?"]


def test_of_many_writers_at_once_one_writes_and_nothing_is_lost(
    chat: Callable[..., TestResponse], flask_app: Flask, engine: Engine, user: Account
) -> None:
    conversation = make_idle(engine, user, EVERYTHING)
    before = stored(engine, conversation)
    archive_all(flask_app)
    with engine.connect() as connection:
        run = connection.execute(
            text("SELECT run_id FROM conversation_archives WHERE conversation_id = :c"), {"c": conversation}
        ).scalar_one()
    threads, answers = at_once(*[lambda: chat("me!", conversation_id=str(conversation))] * 20)
    ended(threads)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 409}
    assert {answer.json["code"] for answer in answers if answer.status_code == 409} <= {"conversation_busy"}
    written = 2 * statuses.count(200)
    assert written >= 2
    assert place(engine, conversation) == ("active", "live", len(EVERYTHING) + written, 0)
    assert stored(engine, conversation).startswith(before)
    with engine.connect() as connection:
        restored = connection.execute(text("SELECT restored FROM archive_runs WHERE id = :id"), {"id": run})
        assert restored.scalar_one() == 1


def test_a_failed_turn_runs_again_out_of_the_bundle(
    chat: Callable[..., TestResponse], flask_app: Flask, engine: Engine, user: Account, upstream: Any
) -> None:
    upstream.script = status(400)
    failed = chat("hello", headers={"Idempotency-Key": "k"})
    conversation = UUID(failed.json["conversation_id"])
    age(engine, conversation)
    archive_all(flask_app)
    assert place(engine, conversation)[1] == "bundled"
    upstream.script = words()
    again = chat("hello", headers={"Idempotency-Key": "k"})
    assert again.status_code == 200, again.json
    assert place(engine, conversation)[:3] == ("active", "live", 2)


def test_an_ended_turn_is_told_again_out_of_the_bundle(
    chat: Callable[..., TestResponse], chat_client: FlaskClient, flask_app: Flask, engine: Engine, user: Account
) -> None:
    first = chat("hello", headers={"Idempotency-Key": "k"}).json
    conversation = UUID(first["conversation"]["id"])
    age(engine, conversation)
    archive_all(flask_app)
    assert chat("hello", headers={"Idempotency-Key": "k"}).json == first
    told = events_of(chat_client.get(f"/api/turns/{first['turn']['id']}/events", headers=user.headers))
    assert told[-2][2]["message"] == first["message"]
    assert place(engine, conversation)[1] == "bundled"


def test_deleting_it_deletes_its_bundle(client: FlaskClient, flask_app: Flask, engine: Engine, user: Account) -> None:
    conversation = make_idle(engine, user, plain(3))
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
    "its checksum": "sha256 = set_byte(sha256, 0, get_byte(sha256, 0) # 1)",
    "its count": "message_count = message_count + 1",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_bundle_is_said_to_be_damaged_and_stays_as_it_is(
    chat: Callable[..., TestResponse],
    client: FlaskClient,
    get: Get,
    flask_app: Flask,
    engine: Engine,
    user: Account,
    damage: str,
) -> None:
    conversation = make_idle(engine, user, plain(50))
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
    assert [(each.status_code, each.json["code"]) for each in refused] == [(503, "archive_damaged")] * 6
    assert place(engine, conversation) == ("archived", "bundled", 0, 1)
    assert get(f"/{conversation}").json["message_count"] == 50
    assert client.delete(f"{URL}/{conversation}", headers=user.headers).status_code == 204


def test_another_conversations_bundle_in_its_place_is_found_out(
    get: Get, flask_app: Flask, engine: Engine, user: Account
) -> None:
    one, other = (make_idle(engine, user, plain(3)) for _ in range(2))
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


def test_one_without_a_bundle_is_said_to_be_damaged(
    get: Get, client: FlaskClient, flask_app: Flask, engine: Engine, user: Account
) -> None:
    conversation = make_idle(engine, user, plain(3))
    archive_all(flask_app)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM conversation_archives WHERE conversation_id = :c"), {"c": conversation})
    assert get(f"/{conversation}/messages").json["code"] == "archive_damaged"
    unarchived = client.post(f"{URL}/{conversation}/unarchive", headers=user.headers)
    assert (unarchived.status_code, unarchived.json["code"]) == (503, "archive_damaged")


def age(engine: Engine, conversation: UUID) -> None:
    """Let a conversation have been idle for years."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE conversations SET created_at = '2020-01-01', updated_at = '2020-01-01' WHERE id = :c"),
            {"c": conversation},
        )
