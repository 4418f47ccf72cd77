"""Conversations: create, get, change, archive and delete."""

from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from tests.api.rows import add_messages, begin_turn, owned_rows
from tests.factories import LoggedInUser, make_conversation

URL = "/api/conversations"


@pytest.fixture
def conversation(engine: Engine, user: LoggedInUser) -> UUID:
    """Insert an older conversation of the user with four messages."""
    made = make_conversation(
        engine, user, title="Plans", created_at="2026-01-01T00:00Z", updated_at="2026-01-02T00:00Z"
    )
    add_messages(engine, user, made, 4)
    return made


def set_columns(engine: Engine, account: LoggedInUser, conversation_id: UUID, assignment: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE conversations SET {assignment} WHERE user_id = :user_id AND id = :id"),
            {"user_id": account.id, "id": conversation_id},
        )


def test_create_and_get_conversation(client: FlaskClient, user: LoggedInUser) -> None:
    project = client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"]
    body = {"title": "Zürich 🚆", "project_id": project, "metadata": {"tags": ["a", 1, 2.5, None, True], "": {}}}
    made = client.post(URL, json=body, headers=user.headers)
    assert made.status_code == 201
    assert {name: made.json[name] for name in body} == body
    assert made.headers["Location"] == f"{URL}/{made.json['id']}"
    read = client.get(made.headers["Location"], headers=user.headers)
    assert read.json == made.json
    assert set(read.json) == {
        "id", "title", "preview", "status", "project_id", "metadata", "message_count", "legal_hold", "created_at",
        "updated_at",
    }  # fmt: skip


def test_create_with_empty_body(client: FlaskClient, user: LoggedInUser) -> None:
    for body in ({"json": {}}, {}):
        made = client.post(URL, headers=user.headers, **body).json
        assert (made["title"], made["project_id"], made["metadata"]) == (None, None, {})
        assert (made["status"], made["message_count"], made["legal_hold"]) == ("active", 0, False)


@pytest.mark.parametrize("title", ["x", "x" * 200, "🚆" * 200, None])
def test_patch_sets_or_removes_title(
    client: FlaskClient, user: LoggedInUser, conversation: UUID, title: str | None
) -> None:
    changed = client.patch(f"{URL}/{conversation}", json={"title": title}, headers=user.headers)
    assert changed.status_code == 200
    assert changed.json["title"] == title
    assert client.get(f"{URL}/{conversation}", headers=user.headers).json == changed.json


def test_patch_replaces_metadata_and_keeps_other_fields(
    client: FlaskClient, user: LoggedInUser, conversation: UUID
) -> None:
    for metadata in ({"a": 1, "b": 2}, {"c": 3}, {}):
        changed = client.patch(f"{URL}/{conversation}", json={"metadata": metadata}, headers=user.headers).json
        assert (changed["metadata"], changed["title"]) == (metadata, "Plans")


def test_empty_patch_changes_nothing(
    client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID
) -> None:
    before = owned_rows(engine, user)
    assert client.patch(f"{URL}/{conversation}", json={}, headers=user.headers).status_code == 200
    assert owned_rows(engine, user) == before


def test_patch_does_not_change_order_of_list(client: FlaskClient, user: LoggedInUser, conversation: UUID) -> None:
    client.patch(f"{URL}/{conversation}", json={"title": "New", "metadata": {"a": 1}}, headers=user.headers)
    client.post(f"{URL}/{conversation}/archive", headers=user.headers)
    back = client.post(f"{URL}/{conversation}/unarchive", headers=user.headers).json
    assert back["updated_at"] == "2026-01-02T00:00:00+00:00"


def test_archive_and_unarchive_are_idempotent(client: FlaskClient, user: LoggedInUser, conversation: UUID) -> None:
    def listed(status: str) -> list[str]:
        items = client.get(URL, query_string={"status": status}, headers=user.headers).json["items"]
        return [item["id"] for item in items]

    assert (listed("active"), listed("archived")) == ([str(conversation)], [])
    for _ in range(2):
        archived = client.post(f"{URL}/{conversation}/archive", headers=user.headers)
        assert (archived.status_code, archived.json["status"]) == (200, "archived")
    assert (listed("active"), listed("archived")) == ([], [str(conversation)])
    for _ in range(2):
        active = client.post(f"{URL}/{conversation}/unarchive", headers=user.headers)
        assert (active.status_code, active.json["status"]) == (200, "active")
    assert (listed("active"), listed("archived")) == ([str(conversation)], [])


def test_delete_removes_messages_and_turns(
    client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID
) -> None:
    begin_turn(engine, user, conversation)
    set_columns(engine, user, conversation, "running_attempt = NULL")
    deleted = client.delete(f"{URL}/{conversation}", headers=user.headers)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert not any(owned_rows(engine, user).values())
    assert client.delete(f"{URL}/{conversation}", headers=user.headers).status_code == 404
    assert client.get(f"{URL}/{conversation}", headers=user.headers).status_code == 404


def test_delete_under_legal_hold_is_409(
    client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID
) -> None:
    set_columns(engine, user, conversation, "legal_hold = true")
    before = owned_rows(engine, user)
    refused = client.delete(f"{URL}/{conversation}", headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    assert "legal hold" in refused.json["detail"]
    assert owned_rows(engine, user) == before
    assert client.post(f"{URL}/{conversation}/archive", headers=user.headers).json["legal_hold"] is True


@pytest.mark.parametrize(("method", "path"), [("DELETE", ""), ("POST", "/archive")])
class TestRunningTurn:
    def test_archive_and_delete_are_409(
        self, client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID, method: str, path: str
    ) -> None:
        begin_turn(engine, user, conversation)
        before = owned_rows(engine, user)
        refused = client.open(f"{URL}/{conversation}{path}", method=method, headers=user.headers)
        assert (refused.status_code, refused.json["code"]) == (409, "conversation_busy")
        assert int(refused.headers["Retry-After"]) >= 1
        assert owned_rows(engine, user) == before

    def test_stale_turn_does_not_block(
        self, client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID, method: str, path: str
    ) -> None:
        begin_turn(engine, user, conversation, silent_for=3600)
        done = client.open(f"{URL}/{conversation}{path}", method=method, headers=user.headers)
        assert done.status_code == (204 if method == "DELETE" else 200)

    @pytest.mark.parametrize(("updated_at", "status"), [("now()", 409), ("now() - interval '1 hour'", None)])
    def test_lease_without_turn_is_stale_by_updated_at(
        self,
        client: FlaskClient,
        engine: Engine,
        user: LoggedInUser,
        conversation: UUID,
        method: str,
        path: str,
        updated_at: str,
        status: int | None,
    ) -> None:
        lease = f"running_attempt = gen_random_uuid(), updated_at = {updated_at}"
        set_columns(engine, user, conversation, lease)
        done = client.open(f"{URL}/{conversation}{path}", method=method, headers=user.headers)
        assert done.status_code == (status or (204 if method == "DELETE" else 200))


def test_other_changes_are_allowed(client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID) -> None:
    begin_turn(engine, user, conversation)
    for url, method, body in (
        (f"{URL}/{conversation}", "GET", None),
        (f"{URL}/{conversation}", "PATCH", {"title": "New", "metadata": {"a": 1}}),
        (f"{URL}/{conversation}/unarchive", "POST", None),
        (f"{URL}/{conversation}/messages", "GET", None),
    ):
        assert client.open(url, method=method, json=body, headers=user.headers).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_unknown_project_is_404(
    client: FlaskClient, engine: Engine, user: LoggedInUser, conversation: UUID, method: str
) -> None:
    before = owned_rows(engine, user)
    url = URL if method == "POST" else f"{URL}/{conversation}"
    refused = client.open(url, method=method, json={"project_id": str(new_id()), "title": "x"}, headers=user.headers)
    assert (refused.status_code, refused.json["detail"]) == (404, "There is no such project.")
    assert owned_rows(engine, user) == before


def test_patch_moves_conversation_into_and_out_of_project(
    client: FlaskClient, user: LoggedInUser, conversation: UUID
) -> None:
    project = client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"]
    for project_id in (project, None):
        body: dict[str, Any] = {"project_id": project_id}
        assert client.patch(f"{URL}/{conversation}", json=body, headers=user.headers).json["project_id"] == project_id
