"""Two people and every route: whatever names something of the other's is 404, and changes nothing.

The routes are read from the application, so a new one is tried as soon as it is there. One that names something this
file does not know, or that refuses the body it is sent before it looks for the thing, fails here until it is told.
"""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.routing import Rule

from app.api.access import Access
from app.api.blueprint import Blueprint
from tests.factories import Account

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
# What a route wants in its body before it looks for the thing that its path names.
BODIES: dict[str, dict[str, Any]] = {
    "/api/<string:user_id>/chat": {"message": "mine now"},
    "/api/projects/<uuid:project_id>/prompts": {"title": "mine", "content": "now"},
}


@pytest.fixture
def victim(chat_app: Flask, user: Account) -> dict[str, str]:
    """One of everything, all of it `user`'s; named as routes name it."""
    client = chat_app.test_client()

    def make(path: str, body: dict[str, Any], **headers: str) -> Any:
        response = client.post(path, json=body, headers={**user.headers, **headers})
        assert response.status_code in (200, 201), response.json
        return response.get_json()

    project = make("/api/projects", {"name": "secret project"})["id"]
    prompt = make(f"/api/projects/{project}/prompts", {"title": "secret", "content": "secret prompt"})["id"]
    chat = make("/api/chat", {"message": "a secret", "project_id": project}, **{"Idempotency-Key": "shared-key"})
    key = make("/api/auth/keys", {"name": "secret key", "scopes": ["read"]})["id"]
    return {
        "user_id": str(user.id),
        "project_id": project,
        "prompt_id": prompt,
        "conversation_id": chat["conversation"]["id"],
        "turn_id": chat["turn"]["id"],
        "key_id": key,
        "job_name": "search.sweep",
        "account_id": str(user.id),
        "run_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "hold_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "provider": "demo",
    }


@pytest.fixture
def everything(engine: Engine, user: Account) -> Callable[[], dict[str, list[Any]]]:
    """A function that reads every row that is `user`'s, from every table that has owners."""

    def read() -> dict[str, list[Any]]:
        with engine.connect() as connection:
            owned = connection.execute(
                text("""
                SELECT c.table_name, c.column_name
                  FROM information_schema.columns c JOIN pg_tables t ON t.tablename = c.table_name
                 WHERE t.schemaname = 'public' AND c.table_schema = 'public'
                   AND (c.column_name = 'user_id' OR (c.table_name, c.column_name) = ('users', 'id'))""")
            ).all()
            assert len(owned) >= 8
            return {
                table: list(
                    connection.execute(
                        text(f"SELECT to_jsonb(t)::text FROM {table} t WHERE {column} = :u ORDER BY 1"), {"u": user.id}
                    ).scalars()
                )
                for table, column in owned
            }

    return read


def routes_with_ids(flask_app: Flask) -> list[tuple[Rule, str]]:
    return [
        (rule, method)
        for rule in flask_app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
        if rule.arguments
    ]


def access_of(flask_app: Flask, rule: Rule) -> Access | None:
    blueprint = flask_app.blueprints.get(rule.endpoint.rpartition(".")[0])
    return blueprint.access if isinstance(blueprint, Blueprint) else None


def path_of(flask_app: Flask, rule: Rule, ids: dict[str, str]) -> str:
    unknown = rule.arguments - set(ids)
    assert not unknown, f"{rule.rule} names {unknown}: give the victim one in tests/faults/test_isolation.py"
    with flask_app.test_request_context():
        built = rule.build({name: ids[name] for name in rule.arguments})
        assert built is not None
        return built[1]


def test_no_route_shows_or_changes_what_is_somebody_elses(
    chat_app: Flask,
    victim: dict[str, str],
    other_user: Account,
    everything: Callable[[], dict[str, list[Any]]],
) -> None:
    client, before, tried = chat_app.test_client(), everything(), 0
    for rule, method in routes_with_ids(chat_app):
        access = access_of(chat_app, rule)
        if access in (None, Access.PUBLIC):  # what nobody owns
            continue
        path = path_of(chat_app, rule, victim)
        body = BODIES.get(rule.rule, {}) if method in UNSAFE else None
        response = client.open(path, method=method, headers=other_user.headers, json=body)
        where = f"{method} {rule.rule}: {response.status_code} {response.get_data()[:300]!r}"
        if access in (Access.OPERATOR, Access.ADMIN):
            assert response.status_code == 403, where
        elif "user_id" in rule.arguments:
            assert response.status_code in (403, 404), where
        else:
            assert response.status_code == 404, f"{where}; if it wants a body first, name one in BODIES"
        assert b"secret" not in response.get_data(), where
        tried += 1
    assert tried >= 15
    assert everything() == before


def test_no_body_or_query_reaches_what_is_somebody_elses(
    chat_app: Flask,
    victim: dict[str, str],
    other_user: Account,
    everything: Callable[[], dict[str, list[Any]]],
) -> None:
    client, before = chat_app.test_client(), everything()
    hers = other_user.headers
    mine = client.post("/api/conversations", json={"title": "mine"}, headers=hers).get_json()["id"]
    own_project = client.post("/api/projects", json={"name": "mine"}, headers=hers).get_json()["id"]
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/api/chat", {"message": "hi", "conversation_id": victim["conversation_id"]}),
        ("POST", "/api/chat", {"message": "hi", "project_id": victim["project_id"]}),
        ("POST", "/api/conversations", {"project_id": victim["project_id"]}),
        ("PATCH", f"/api/conversations/{mine}", {"project_id": victim["project_id"]}),
        ("PATCH", f"/api/projects/{own_project}/prompts/{victim['prompt_id']}", {"title": "mine"}),
        ("GET", f"/api/projects/{own_project}/prompts/{victim['prompt_id']}", {}),
        ("DELETE", f"/api/projects/{own_project}/prompts/{victim['prompt_id']}", {}),
    ]
    for method, path, body in attempts:
        response = client.open(path, method=method, json=body, headers=hers)
        assert response.status_code == 404, (method, path, response.json)
    for owner in ("user_id", "id", "role"):
        for path in ("/api/conversations", "/api/chat", "/api/projects"):
            body = {"message": "hi"} if path == "/api/chat" else {"name": "n"} if "projects" in path else {}
            refused = client.post(path, json={**body, owner: victim["user_id"]}, headers=hers)
            assert refused.status_code == 400, (path, owner)
    filtered = client.get("/api/conversations", query_string={"project_id": victim["project_id"]}, headers=hers)
    assert filtered.get_json()["items"] == []
    assert everything() == before


def test_an_idempotency_key_is_its_users_own(
    chat_app: Flask,
    client: FlaskClient,
    victim: dict[str, str],
    other_user: Account,
    everything: Callable[[], dict[str, list[Any]]],
) -> None:
    before = everything()
    headers = {**other_user.headers, "Idempotency-Key": "shared-key"}
    answer = chat_app.test_client().post("/api/chat", json={"message": "my own"}, headers=headers)
    assert answer.status_code == 200
    assert answer.get_json()["turn"]["id"] != victim["turn_id"]
    assert everything() == before
