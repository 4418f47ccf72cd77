"""The messages of a project, over its live, empty and bundled conversations."""

from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from tests.api.rows import walk
from tests.bundling import archive_all, make_idle, numbered_messages
from tests.factories import LoggedInUser, make_conversation

# Messages of each conversation, and whether it is bundled.
CONVERSATIONS = [(3, True), (0, False), (5, False), (1, True), (2, True), (0, True), (40, False), (7, True), (1, False)]


@pytest.fixture
def project(client: FlaskClient, user: LoggedInUser) -> str:
    created = client.post("/api/projects", json={"name": "P"}, headers=user.headers)
    return str(created.json["id"])


@pytest.fixture
def expected(flask_app: Flask, engine: Engine, user: LoggedInUser, project: str) -> list[tuple[str, int]]:
    """Create the conversations, and return (conversation, position) of their messages in order."""
    conversations = [
        (make_idle(engine, user, numbered_messages(count), project_id=project), count, bundled)
        for count, bundled in CONVERSATIONS
    ]
    _touch(engine, [conversation for conversation, _, bundled in conversations if not bundled])
    archive_all(flask_app)
    make_idle(engine, user, numbered_messages(3))  # of no project
    return [(str(id_), position) for id_, count, _ in conversations for position in range(1, count + 1)]


def _touch(engine: Engine, conversations: list[UUID]) -> None:
    """Make conversations active, so that they are not archived."""
    with engine.begin() as connection:
        statement = text("UPDATE conversations SET updated_at = now() WHERE id = ANY (:ids)")
        connection.execute(statement, {"ids": conversations})


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 7, 50, 100])
def test_pages_have_each_message_once(
    client: FlaskClient, user: LoggedInUser, project: str, expected: list[tuple[str, int]], order: str, limit: int
) -> None:
    items = walk(client, user, f"/api/projects/{project}/messages", order=order, limit=limit)
    wanted = expected if order == "asc" else expected[::-1]
    assert [(item["conversation_id"], item["position"]) for item in items] == wanted


@pytest.mark.usefixtures("expected")
def test_fields_are_those_of_the_conversation(client: FlaskClient, user: LoggedInUser, project: str) -> None:
    for item in walk(client, user, f"/api/projects/{project}/messages", limit=50):
        conversation = item.pop("conversation_id")
        url = f"/api/conversations/{conversation}/messages"
        assert item in walk(client, user, url, limit=50)


def test_project_without_messages_has_an_empty_page(client: FlaskClient, user: LoggedInUser, project: str) -> None:
    page = client.get(f"/api/projects/{project}/messages", headers=user.headers)
    assert (page.status_code, page.json) == (200, {"items": [], "next_cursor": None})


def test_unknown_project_is_not_found(client: FlaskClient, user: LoggedInUser) -> None:
    assert client.get(f"/api/projects/{new_id()}/messages", headers=user.headers).status_code == 404


def test_cursor_of_another_list_is_refused(
    client: FlaskClient, engine: Engine, user: LoggedInUser, project: str
) -> None:
    make_conversation(engine, user)
    for query in ({"cursor": "WyJtZXNzYWdlcy4xIiw1XQ"}, {"cursor": "x"}, {"order": "newest"}, {"limit": "0"}):
        response = client.get(f"/api/projects/{project}/messages", query_string=query, headers=user.headers)
        assert response.status_code == 400, response.text


def test_missing_bundle_is_an_error(
    client: FlaskClient, engine: Engine, user: LoggedInUser, project: str, expected: list[tuple[str, int]]
) -> None:
    with engine.begin() as connection:
        statement = text("DELETE FROM conversation_archives WHERE conversation_id = :id")
        connection.execute(statement, {"id": expected[0][0]})
    response = client.get(f"/api/projects/{project}/messages", headers=user.headers)
    assert (response.status_code, response.json["code"]) == (503, "archive_damaged"), response.text
    with engine.begin() as connection:  # other tests verify all bundles
        connection.execute(text("DELETE FROM conversations WHERE id = :id"), {"id": expected[0][0]})
