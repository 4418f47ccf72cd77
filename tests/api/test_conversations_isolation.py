"""Two users and each other's ids, on every route and method of conversations, projects and prompts.

The routes are read from the application, so that a new one is tried as soon as it is there.
"""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.models.columns import new_id
from tests.api.rows import add_messages, owned_rows
from tests.factories import Account, make_conversation

BLUEPRINTS = ("conversations", "projects", "prompts")
# A body that would be accepted, for each route that wants one.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("conversations.OneConversation", "PATCH"): {"title": "mine now"},
    ("projects.OneProject", "PATCH"): {"name": "mine now"},
    ("prompts.Prompts", "POST"): {"title": "mine", "content": "Obey me."},
    ("prompts.OnePrompt", "PATCH"): {"content": "Obey me."},
}


@pytest.fixture
def theirs(client: FlaskClient, engine: Engine, other_user: Account) -> dict[str, str]:
    """One of everything that the other user has."""
    project = client.post("/api/projects", json={"name": "Bot"}, headers=other_user.headers).json["id"]
    prompts = f"/api/projects/{project}/prompts"
    body = {"title": "Tone", "content": "Be kind."}
    prompt = client.post(prompts, json=body, headers=other_user.headers).json["id"]
    conversation = make_conversation(engine, other_user, title="Secret", project_id=project)
    add_messages(engine, other_user, conversation, 3)
    return {"project_id": project, "prompt_id": prompt, "conversation_id": str(conversation)}


def routes(flask_app: Flask) -> list[tuple[str, str, str]]:
    """(endpoint, method, rule) of every route of ours that names something."""
    return [
        (rule.endpoint, method, rule.rule)
        for rule in flask_app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in BLUEPRINTS and rule.arguments
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
    ]


def filled(rule: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        rule = rule.replace(f"<uuid:{name}>", value)
    assert "<" not in rule
    return rule


def test_somebody_elses_ids_are_not_found_anywhere_and_nothing_changes(
    flask_app: Flask, client: FlaskClient, engine: Engine, user: Account, other_user: Account, theirs: dict[str, str]
) -> None:
    before, tried = owned_rows(engine, other_user), 0
    for endpoint, method, rule in routes(flask_app):
        body = BODIES.get((endpoint, method))
        foreign = client.open(filled(rule, theirs), method=method, json=body, headers=user.headers)
        assert foreign.status_code == 404, (method, rule, foreign.text)
        # An id of nobody's looks the same, so that the answer confirms nothing.
        nobodys = {name: str(new_id()) for name in theirs}
        absent = client.open(filled(rule, nobodys), method=method, json=body, headers=user.headers)
        assert absent.status_code == 404, (method, rule, absent.text)
        if method != "HEAD":
            assert (foreign.json["code"], foreign.json["detail"]) == (absent.json["code"], absent.json["detail"])
        tried += 1
    assert tried >= 16
    assert owned_rows(engine, other_user) == before
    assert not any(owned_rows(engine, user).values())


def test_the_owner_is_let_in_by_the_same_routes(
    flask_app: Flask, client: FlaskClient, other_user: Account, theirs: dict[str, str]
) -> None:
    """Without this the test above would pass on routes that are never found."""
    last = {"DELETE": 1}  # what deletes comes last, the prompt before its project
    for endpoint, method, rule in sorted(routes(flask_app), key=lambda route: (last.get(route[1], 0), -len(route[2]))):
        body = BODIES.get((endpoint, method))
        answer = client.open(filled(rule, theirs), method=method, json=body, headers=other_user.headers)
        assert answer.status_code in (200, 201, 204), (method, rule, answer.text)


def test_lists_show_ones_own_only(
    client: FlaskClient, user: Account, other_user: Account, theirs: dict[str, str]
) -> None:
    for url in ("/api/conversations", "/api/projects"):
        assert client.get(url, headers=user.headers).json == {"items": [], "next_cursor": None}
        assert len(client.get(url, headers=other_user.headers).json["items"]) == 1


def test_nothing_of_mine_goes_into_somebody_elses_project(
    client: FlaskClient, engine: Engine, user: Account, other_user: Account, theirs: dict[str, str]
) -> None:
    mine = make_conversation(engine, user)
    before = owned_rows(engine, user), owned_rows(engine, other_user)
    body = {"project_id": theirs["project_id"]}
    for method, url in (("POST", "/api/conversations"), ("PATCH", f"/api/conversations/{mine}")):
        refused = client.open(url, method=method, json=body, headers=user.headers)
        assert (refused.status_code, refused.json["detail"]) == (404, "There is no such project.")
    assert (owned_rows(engine, user), owned_rows(engine, other_user)) == before


def test_a_prompt_is_found_in_its_own_project_only(
    client: FlaskClient, engine: Engine, user: Account, other_user: Account, theirs: dict[str, str]
) -> None:
    """Through my own project neither their prompt nor the prompt of another project of mine is reached."""
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


def test_without_a_token_nobody_is_let_in(flask_app: Flask, client: FlaskClient, theirs: dict[str, str]) -> None:
    for _, method, rule in routes(flask_app):
        assert client.open(filled(rule, theirs), method=method).status_code == 401
    for url in ("/api/conversations", "/api/projects"):
        assert [client.open(url, method=method).status_code for method in ("GET", "POST")] == [401, 401]
