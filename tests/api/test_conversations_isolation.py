"""Isolation of users on every route and method of conversations, projects, prompts and tasks.

The routes are read from the application, so new ones are included.
"""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.ids import new_id
from tests.api.rows import add_messages, owned_rows
from tests.factories import LoggedInUser, make_conversation

BLUEPRINTS = ("conversations", "projects", "prompts", "tasks")
# A valid body for each route that needs one.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("conversations.OneConversation", "PATCH"): {"title": "mine now"},
    ("projects.OneProject", "PATCH"): {"name": "mine now"},
    ("prompts.Prompts", "POST"): {"title": "mine", "content": "Obey me."},
    ("prompts.OnePrompt", "PATCH"): {"content": "Obey me."},
    ("tasks.OneTodo", "PATCH"): {"completed": True},
}


@pytest.fixture
def theirs(client: FlaskClient, engine: Engine, other_user: LoggedInUser) -> dict[str, str]:
    """Create one object of each kind for the other user."""
    project = client.post("/api/projects", json={"name": "Bot"}, headers=other_user.headers).json["id"]
    prompts = f"/api/projects/{project}/prompts"
    body = {"title": "Tone", "content": "Be kind."}
    prompt = client.post(prompts, json=body, headers=other_user.headers).json["id"]
    client.patch(f"{prompts}/{prompt}", json={"content": "Be brief.", "draft": "Be short."}, headers=other_user.headers)
    todo = client.post("/api/tasks", json={"title": "Buy milk"}, headers=other_user.headers).json["id"]
    conversation = make_conversation(engine, other_user, title="Secret", project_id=project)
    add_messages(engine, other_user, conversation, 3)
    ids = {"project_id": project, "prompt_id": prompt, "conversation_id": str(conversation), "todo_id": todo}
    return {**ids, "number": "1"}


def routes(flask_app: Flask) -> list[tuple[str, str, str]]:
    """Return (endpoint, method, rule) of every route of these blueprints with an id in its path."""
    return [
        (rule.endpoint, method, rule.rule)
        for rule in flask_app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in BLUEPRINTS and rule.arguments
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]


def filled(rule: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        rule = re.sub(rf"<[^<>]*:{name}>", value, rule)
    assert "<" not in rule
    return rule


def test_other_users_ids_are_404_on_every_route(
    flask_app: Flask,
    client: FlaskClient,
    engine: Engine,
    user: LoggedInUser,
    other_user: LoggedInUser,
    theirs: dict[str, str],
) -> None:
    before, tried = owned_rows(engine, other_user), 0
    for endpoint, method, rule in routes(flask_app):
        body = BODIES.get((endpoint, method))
        foreign = client.open(filled(rule, theirs), method=method, json=body, headers=user.headers)
        assert foreign.status_code == 404, (method, rule, foreign.text)
        # An unknown id has the same response, so the response does not confirm that an object exists.
        unknown = {**{name: str(new_id()) for name in theirs}, "number": theirs["number"]}
        absent = client.open(filled(rule, unknown), method=method, json=body, headers=user.headers)
        assert absent.status_code == 404, (method, rule, absent.text)
        if method != "HEAD":
            assert (foreign.json["code"], foreign.json["detail"]) == (absent.json["code"], absent.json["detail"])
        tried += 1
    assert tried >= 16
    assert owned_rows(engine, other_user) == before
    assert not any(owned_rows(engine, user).values())


def test_owner_can_use_same_routes(
    flask_app: Flask, client: FlaskClient, other_user: LoggedInUser, theirs: dict[str, str]
) -> None:
    """The control of the test above, which would also pass if the routes did not exist."""
    last = {"DELETE": 1}  # deletions last, the prompt before its project
    for endpoint, method, rule in sorted(routes(flask_app), key=lambda route: (last.get(route[1], 0), -len(route[2]))):
        body = BODIES.get((endpoint, method))
        answer = client.open(filled(rule, theirs), method=method, json=body, headers=other_user.headers)
        assert answer.status_code in (200, 201, 204), (method, rule, answer.text)


def test_lists_contain_only_own_items(
    client: FlaskClient, user: LoggedInUser, other_user: LoggedInUser, theirs: dict[str, str]
) -> None:
    for url in ("/api/conversations", "/api/projects"):
        assert client.get(url, headers=user.headers).json == {"items": [], "next_cursor": None}
        assert len(client.get(url, headers=other_user.headers).json["items"]) == 1


def test_move_into_other_users_project_is_404(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, theirs: dict[str, str]
) -> None:
    mine = make_conversation(engine, user)
    before = owned_rows(engine, user), owned_rows(engine, other_user)
    body = {"project_id": theirs["project_id"]}
    for method, url in (("POST", "/api/conversations"), ("PATCH", f"/api/conversations/{mine}")):
        refused = client.open(url, method=method, json=body, headers=user.headers)
        assert (refused.status_code, refused.json["detail"]) == (404, "There is no such project.")
    assert (owned_rows(engine, user), owned_rows(engine, other_user)) == before


def test_prompt_in_other_project_is_404(
    client: FlaskClient, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, theirs: dict[str, str]
) -> None:
    """Neither a prompt of another user nor one of another own project."""
    projects = [
        client.post("/api/projects", json={"name": name}, headers=user.headers).json["id"] for name in ("One", "Two")
    ]
    body = {"title": "Tone", "content": "Be kind."}
    mine = client.post(f"/api/projects/{projects[0]}/prompts", json=body, headers=user.headers).json["id"]
    before = owned_rows(engine, user), owned_rows(engine, other_user)
    for prompt in (mine, theirs["prompt_id"]):
        for method in ("GET", "PATCH", "DELETE"):
            url = f"/api/projects/{projects[1]}/prompts/{prompt}"
            answer = client.open(url, method=method, json={} if method == "PATCH" else None, headers=user.headers)
            assert answer.status_code == 404
            url = f"/api/projects/{theirs['project_id']}/prompts/{prompt}"
            answer = client.open(url, method=method, json={} if method == "PATCH" else None, headers=user.headers)
            assert answer.status_code == 404
    assert (owned_rows(engine, user), owned_rows(engine, other_user)) == before


def test_request_without_token_is_401(flask_app: Flask, client: FlaskClient, theirs: dict[str, str]) -> None:
    for _, method, rule in routes(flask_app):
        assert client.open(filled(rule, theirs), method=method).status_code == 401
    for url in ("/api/conversations", "/api/projects"):
        assert [client.open(url, method=method).status_code for method in ("GET", "POST")] == [401, 401]
