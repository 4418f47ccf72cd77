"""The system prompts of a project."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from tests.api.rows import owned_rows, walk
from tests.factories import LoggedInUser


@pytest.fixture
def url(client: FlaskClient, user: LoggedInUser) -> str:
    """Create a project and return the URL of its prompts."""
    project = client.post("/api/projects", json={"name": "Bot"}, headers=user.headers).json["id"]
    return f"/api/projects/{project}/prompts"


def test_create_get_change_and_delete_prompt(client: FlaskClient, engine: Engine, user: LoggedInUser, url: str) -> None:
    body: dict[str, Any] = {"title": "Tone", "content": "x" * 50_000, "position": 3, "enabled": False}
    made = client.post(url, json=body, headers=user.headers)
    assert made.status_code == 201
    assert {name: made.json[name] for name in body} == body
    assert set(made.json) - set(body) == {
        *("id", "project_id", "created_at", "updated_at"),
        *("version", "draft", "variables"),
    }
    one = made.headers["Location"]
    assert one == f"{url}/{made.json['id']}"
    assert client.get(one, headers=user.headers).json == made.json

    assert (made.json["version"], made.json["draft"], made.json["variables"]) == (1, None, False)
    change = {"title": "Voice", "content": "Be kind.", "position": 0, "enabled": True}
    changed = client.patch(one, json=change, headers=user.headers).json
    assert {name: changed[name] for name in change} == change
    assert changed["updated_at"] > made.json["updated_at"]
    before = owned_rows(engine, user)
    assert client.patch(one, json={}, headers=user.headers).json == changed
    assert owned_rows(engine, user) == before

    assert client.delete(one, headers=user.headers).status_code == 204
    assert [client.open(one, method=method, headers=user.headers).status_code for method in ("GET", "DELETE")] == [
        404
    ] * 2


def test_default_position_is_last(client: FlaskClient, user: LoggedInUser, url: str) -> None:
    for title, place in (("a", {}), ("b", {}), ("c", {"position": 10_000}), ("d", {}), ("e", {"position": 0})):
        assert client.post(url, json={"title": title, "content": "x", **place}, headers=user.headers).status_code == 201
    items = walk(client, user, url, limit=2)
    assert [(item["title"], item["position"]) for item in items] == [
        ("a", 0),
        ("e", 0),
        ("b", 1),
        ("c", 10_000),
        ("d", 10_000),
    ]
    assert all(item["enabled"] for item in items)


def test_pages_with_equal_positions_have_each_prompt_once(
    client: FlaskClient, engine: Engine, user: LoggedInUser, url: str
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO prompts (user_id, id, project_id, title, content, position)"
                " SELECT :user_id, gen_random_uuid(), :project, n::text, 'x', n / 10 FROM generate_series(1, 50) AS n"
            ),
            {"user_id": user.id, "project": url.split("/")[3]},
        )
    items = walk(client, user, url, limit=3)
    assert sorted(int(item["title"]) for item in items) == list(range(1, 51))
    assert items == sorted(items, key=lambda item: (item["position"], item["id"]))
    refused = client.post(url, json={"title": "x", "content": "x"}, headers=user.headers)
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    assert "at most 50" in refused.json["detail"]


def test_list_without_prompts_is_empty(client: FlaskClient, user: LoggedInUser, url: str) -> None:
    assert client.get(url, headers=user.headers).json == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": " "}, "title"),
        ({"title": None}, "title"),
        ({"title": "x" * 101}, "title"),
        ({"content": ""}, "content"),
        ({"content": "\n"}, "content"),
        ({"content": "x" * 50_001}, "content"),
        ({"content": {}}, "content"),
        ({"position": -1}, "position"),
        ({"position": 10_001}, "position"),
        ({"position": 2**63}, "position"),
        ({"position": 1.5}, "position"),
        ({"position": None}, "position"),
        ({"position": True}, "position"),
        ({"enabled": None}, "enabled"),
        ({"enabled": "maybe"}, "enabled"),
        ({"id": str(new_id())}, "id"),
        ({"user_id": str(new_id())}, "user_id"),
        ({"project_id": str(new_id())}, "project_id"),
    ],
)
def test_invalid_value_is_400_with_field(
    client: FlaskClient, engine: Engine, user: LoggedInUser, url: str, change: dict[str, Any], field: str
) -> None:
    body = {"title": "Tone", "content": "Be kind."}
    one = client.post(url, json=body, headers=user.headers).headers["Location"]
    before = owned_rows(engine, user)
    for method, place in (("POST", url), ("PATCH", one)):
        refused = client.open(place, method=method, json={**body, **change}, headers=user.headers)
        assert refused.status_code == 400
        assert list(refused.json["errors"]) == [field]
    assert owned_rows(engine, user) == before


def test_title_and_content_are_required(client: FlaskClient, user: LoggedInUser, url: str) -> None:
    refused = client.post(url, json={}, headers=user.headers)
    assert (refused.status_code, sorted(refused.json["errors"])) == (400, ["content", "title"])


@pytest.mark.parametrize("raw", [rb'{"title": "a", "content": "\u0000"}', rb'{"title": "\udfff", "content": "a"}'])
def test_unstorable_body_is_400(client: FlaskClient, engine: Engine, user: LoggedInUser, url: str, raw: bytes) -> None:
    assert client.post(url, data=raw, content_type="application/json", headers=user.headers).status_code == 400
    assert owned_rows(engine, user)["prompts"] == []


@pytest.mark.parametrize("query", [{"limit": "0"}, {"cursor": "x"}, {"enabled": "true"}])
def test_invalid_query_is_400_with_field(
    client: FlaskClient, user: LoggedInUser, url: str, query: dict[str, str]
) -> None:
    refused = client.get(url, query_string=query, headers=user.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (400, list(query))
