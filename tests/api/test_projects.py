"""Projects: prompts and one of the operator's providers, never its URL or key."""

from typing import Any
from uuid import UUID

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.ids import new_id
from tests.api.rows import owned_rows, walk
from tests.factories import LoggedInUser, make_conversation

URL = "/api/projects"


@pytest.fixture
def project(client: FlaskClient, user: LoggedInUser) -> str:
    return str(client.post(URL, json={"name": "Bot"}, headers=user.headers).json["id"])


def test_create_get_and_change_project(client: FlaskClient, user: LoggedInUser) -> None:
    body: dict[str, Any] = {
        "name": "Bot",
        "description": "",
        "provider": "demo",
        "model": "demo-1",
        "settings": {"temperature": 0.7, "max_output_tokens": 512},
    }
    made = client.post(URL, json=body, headers=user.headers)
    assert made.status_code == 201
    assert {name: made.json[name] for name in body} == body
    assert set(made.json) - set(body) == {"id", "provider_files", "created_at", "updated_at"}
    assert client.get(made.headers["Location"], headers=user.headers).json == made.json

    change: dict[str, Any] = {"name": "Robot", "description": None, "provider": None, "model": None, "settings": {}}
    changed = client.patch(made.headers["Location"], json=change, headers=user.headers).json
    assert {name: changed[name] for name in change} == change
    assert changed["updated_at"] > made.json["updated_at"]
    assert changed["created_at"] == made.json["created_at"]


def test_patch_keeps_other_fields(client: FlaskClient, engine: Engine, user: LoggedInUser, project: str) -> None:
    changed = client.patch(f"{URL}/{project}", json={"description": "Helps."}, headers=user.headers).json
    assert (changed["name"], changed["description"], changed["settings"]) == ("Bot", "Helps.", {})
    before = owned_rows(engine, user)
    assert client.patch(f"{URL}/{project}", json={}, headers=user.headers).json == changed
    assert owned_rows(engine, user) == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "description": "x" * 2001}, "description"),
        ({"name": "x", "provider": "nobody"}, "provider"),
        ({"name": "x", "provider": "openai"}, "provider"),  # a valid name, but not configured
        ({"name": "x", "provider": ""}, "provider"),
        ({"name": "x", "provider": "http://10.0.0.1/"}, "provider"),
        ({"name": "x", "model": ""}, "model"),
        ({"name": "x", "model": "x" * 201}, "model"),
        ({"name": "x", "settings": None}, "settings"),
        ({"name": "x", "settings": []}, "settings"),
        ({"name": "x", "settings": {"base_url": "http://10.0.0.1/"}}, "settings.base_url"),
        ({"name": "x", "settings": {"api_key": "x"}}, "settings.api_key"),
        ({"name": "x", "settings": {"temperature": 2.1}}, "settings.temperature"),
        ({"name": "x", "settings": {"temperature": -0.1}}, "settings.temperature"),
        ({"name": "x", "settings": {"temperature": True}}, "settings.temperature"),
        ({"name": "x", "settings": {"temperature": None}}, "settings.temperature"),
        ({"name": "x", "settings": {"max_output_tokens": 0}}, "settings.max_output_tokens"),
        ({"name": "x", "settings": {"max_output_tokens": 2**63}}, "settings.max_output_tokens"),
        ({"name": "x", "settings": {"max_output_tokens": 1.5}}, "settings.max_output_tokens"),
        ({"name": "x", "id": str(new_id())}, "id"),
        ({"name": "x", "user_id": str(new_id())}, "user_id"),
        ({"name": "x", "created_at": "2026-01-01T00:00:00Z"}, "created_at"),
    ],
)
def test_invalid_value_is_400_with_field(
    client: FlaskClient, engine: Engine, user: LoggedInUser, project: str, body: dict[str, Any], field: str
) -> None:
    before = owned_rows(engine, user)
    for method, url in (("POST", URL), ("PATCH", f"{URL}/{project}")):
        refused = client.open(url, method=method, json=body, headers=user.headers)
        assert refused.status_code == 400
        assert [name.removesuffix("._schema") for name in refused.json["errors"]] == [field]
    assert owned_rows(engine, user) == before


def test_name_is_required(client: FlaskClient, user: LoggedInUser) -> None:
    for body in ({"json": {}}, {}):
        refused = client.post(URL, headers=user.headers, **body)
        assert (refused.status_code, list(refused.json["errors"])) == (400, ["name"])


@pytest.mark.parametrize("raw", [rb'{"name": "a\u0000"}', rb'{"name": "\ud800"}', b"[]", b"{"])
def test_unreadable_or_unstorable_body_is_400(client: FlaskClient, user: LoggedInUser, raw: bytes) -> None:
    assert client.post(URL, data=raw, content_type="application/json", headers=user.headers).status_code == 400


def test_delete_removes_prompts_and_keeps_conversations(
    client: FlaskClient, engine: Engine, user: LoggedInUser, project: str
) -> None:
    body = {"title": "Tone", "content": "Be kind."}
    client.post(f"{URL}/{project}/prompts", json=body, headers=user.headers)
    conversation = make_conversation(engine, user, project_id=UUID(project))
    assert client.delete(f"{URL}/{project}", headers=user.headers).status_code == 204
    assert client.delete(f"{URL}/{project}", headers=user.headers).status_code == 404
    left = client.get(f"/api/conversations/{conversation}", headers=user.headers)
    assert (left.status_code, left.json["project_id"]) == (200, None)
    rows = owned_rows(engine, user)
    assert (rows["projects"], rows["prompts"]) == ([], [])


def test_list_is_newest_first_with_each_project_once(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser
) -> None:
    with engine.begin() as connection:
        for account, count in ((user, 25), (other_user, 5)):
            for n in range(count):
                connection.execute(
                    text("INSERT INTO projects (user_id, id, name) VALUES (:user_id, :id, :name)"),
                    {"user_id": account.id, "id": new_id(), "name": str(n)},
                )
    assert [item["name"] for item in walk(client, user, URL, limit=4)] == [str(n) for n in range(24, -1, -1)]


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"cursor": "x"}, {"name": "x"}])
def test_invalid_query_is_400_with_field(client: FlaskClient, user: LoggedInUser, query: dict[str, str]) -> None:
    refused = client.get(URL, query_string=query, headers=user.headers)
    assert (refused.status_code, list(refused.json["errors"])) == (400, list(query))


def test_body_above_limit_is_413(client: FlaskClient, user: LoggedInUser) -> None:
    raw = orjson.dumps({"name": "x", "description": "x" * 1_100_000})
    refused = client.post(URL, data=raw, content_type="application/json", headers=user.headers)
    assert refused.status_code == 413
