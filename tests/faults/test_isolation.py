"""Two people and every route: whatever names something of the other's is 404, and changes nothing.

The routes are read from the application, so a new one is tried as soon as it is there. One that names something this
file does not know, or that refuses the body it is sent before it looks for the thing, fails here until it is told.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.routing import Rule

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.config import Settings
from app.extensions import db
from tests.contracts.application import as_served
from tests.factories import Account
from tests.faults.bundling import put_away

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
# What a route wants in its body before it looks for the thing that its path names, or does anything to it.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/<string:user_id>/chat"): {"message": "mine now"},
    ("POST", "/api/projects/<uuid:project_id>/prompts"): {"title": "mine", "content": "now"},
    ("PATCH", "/api/conversations/<uuid:conversation_id>"): {"title": "mine now", "metadata": {"mine": True}},
    ("PATCH", "/api/projects/<uuid:project_id>"): {"name": "mine now"},
    ("PATCH", "/api/projects/<uuid:project_id>/prompts/<uuid:prompt_id>"): {"title": "mine now"},
}


@pytest.fixture(scope="module")
def chat_app(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """As wsgi.py builds it, with the routes of operators, on the database that `flask_app` has migrated."""
    served = as_served(settings)
    yield served
    with served.app_context():
        db.engine.dispose()


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
def in_state(chat_app: Flask, victim: dict[str, str], user: Account, engine: Engine) -> Callable[[str], None]:
    """A function that brings the victim's conversation and turn into a state, for statements that look at it."""

    def bring(state: str) -> None:
        if state == "bundled":
            with chat_app.app_context():
                put_away(user.id, victim["conversation_id"])
            with engine.connect() as connection:
                query = text("SELECT storage FROM conversations WHERE id = :c")
                assert connection.execute(query, {"c": victim["conversation_id"]}).scalar_one() == "bundled"
        if state == "running":
            with engine.begin() as connection:
                connection.execute(
                    text("""
                    WITH t AS (UPDATE turns SET status = 'running', finished_at = NULL, heartbeat_at = now()
                                WHERE id = :turn RETURNING conversation_id, attempt)
                    UPDATE conversations SET running_attempt = t.attempt FROM t WHERE id = t.conversation_id"""),
                    {"turn": victim["turn_id"]},
                )

    return bring


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


@pytest.mark.parametrize("state", ["ended", "running", "bundled"])
def test_no_route_shows_or_changes_what_is_somebody_elses(
    chat_app: Flask,
    victim: dict[str, str],
    in_state: Callable[[str], None],
    other_user: Account,
    everything: Callable[[], dict[str, list[Any]]],
    state: str,
) -> None:
    in_state(state)
    client, before, tried = chat_app.test_client(), everything(), 0
    for rule, method in routes_with_ids(chat_app):
        access = access_of(chat_app, rule)
        if access in (None, Access.PUBLIC):  # what nobody owns
            continue
        path = path_of(chat_app, rule, victim)
        assert method != "PATCH" or access in (Access.OPERATOR, Access.ADMIN) or (method, rule.rule) in BODIES, (
            f"an empty change of {rule.rule} may be none: name one in BODIES"
        )
        body = BODIES.get((method, rule.rule), {}) if method in UNSAFE else None
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


def test_no_list_shows_what_is_somebody_elses(
    chat_app: Flask, victim: dict[str, str], user: Account, other_user: Account
) -> None:
    client, tried = chat_app.test_client(), 0
    own = {
        victim[name].encode() for name in ("user_id", "project_id", "prompt_id", "conversation_id", "turn_id", "key_id")
    }
    for rule in chat_app.url_map.iter_rules():
        access = access_of(chat_app, rule)
        if rule.arguments or "GET" not in (rule.methods or ()) or access not in (Access.USER, Access.PERSON):
            continue
        for query in ("", "?limit=100&status=active&q=secret"):  # parameters that it does not know are refused
            shown = {
                who.id: client.get(rule.rule + query, headers={**who.headers, "Accept-Encoding": "identity"}).get_data()
                for who in (user, other_user)
            }
            for each in (*own, b"secret"):
                assert each not in shown[other_user.id], rule.rule
            tried += any(each in shown[user.id] for each in own)
    assert tried >= 4, "these show their owner nothing, so they prove nothing"


def named_things(flask_app: Flask) -> set[tuple[str, str, str]]:
    """(method, path, field) wherever a body or a query names something by its id, as the description says."""
    document = flask_app.test_client().get("/openapi.json").get_json()

    def resolved(node: dict[str, Any]) -> dict[str, Any]:
        return (
            document["components"][node["$ref"].split("/")[-2]][node["$ref"].split("/")[-1]] if "$ref" in node else node
        )

    def ids_in(schema: dict[str, Any], within: str = "") -> Iterator[str]:
        schema = resolved(schema)
        if schema.get("format") == "uuid":
            yield within
        for part in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
            yield from ids_in(part, within)
        if "items" in schema:
            yield from ids_in(schema["items"], within)
        for name, inner in schema.get("properties", {}).items():
            yield from ids_in(inner, f"{within}.{name}".strip("."))

    found = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            queries = [each for each in map(resolved, operation.get("parameters", ())) if each["in"] == "query"]
            found |= {(method.upper(), path, each["name"]) for each in queries if list(ids_in(each["schema"]))}
            bodies = operation.get("requestBody", {}).get("content", {}).values()
            found |= {(method.upper(), path, name) for body in bodies for name in ids_in(body.get("schema", {}))}
    return found


# Not the caller's to name: what is told of a document is not taken over, and operators may name what is anybody's.
NOT_TAKEN_OVER = {
    ("POST", "/api/conversations/import", name)
    for name in ("conversation.id", "conversation.project_id", "messages.turn_id")
}


def test_no_body_or_query_reaches_what_is_somebody_elses(
    chat_app: Flask,
    victim: dict[str, str],
    other_user: Account,
    everything: Callable[[], dict[str, list[Any]]],
) -> None:
    client, before = chat_app.test_client(), everything()
    hers, her_id = other_user.headers, str(other_user.id)
    mine = client.post("/api/conversations", json={"title": "mine"}, headers=hers).get_json()["id"]
    own_project = client.post("/api/projects", json={"name": "mine"}, headers=hers).get_json()["id"]
    paths = {"user_id": her_id, "conversation_id": mine, "project_id": own_project}
    tried = set()
    for method, path, name in named_things(chat_app) - NOT_TAKEN_OVER:
        if path.startswith("/api/admin/"):
            continue
        where = (method, path, name)
        if method == "GET":  # a filter by what is nobody's finds nothing
            found = client.get(path.format(**paths), query_string={name: victim[name]}, headers=hers)
            assert found.get_json()["items"] == [], where
        else:
            body = {**({"message": "hi"} if path.endswith("/chat") else {}), name: victim[name]}
            response = client.open(path.format(**paths), method=method, json=body, headers=hers)
            assert response.status_code == 404, (where, response.json)
        tried.add(where)
    assert len(tried) >= 7
    prompt = f"/api/projects/{own_project}/prompts/{victim['prompt_id']}"
    for method, body in (("PATCH", {"title": "mine"}), ("GET", None), ("DELETE", None)):
        assert client.open(prompt, method=method, json=body, headers=hers).status_code == 404, method
    for owner in ("user_id", "id", "role"):
        for path in ("/api/conversations", "/api/chat", "/api/projects"):
            body = {"message": "hi"} if path == "/api/chat" else {"name": "n"} if "projects" in path else {}
            refused = client.post(path, json={**body, owner: victim["user_id"]}, headers=hers)
            assert refused.status_code == 400, (path, owner)
    assert everything() == before


def test_an_idempotency_key_is_its_users_own(
    chat_app: Flask,
    victim: dict[str, str],
    user: Account,
    other_user: Account,
    everything: Callable[[], dict[str, list[Any]]],
) -> None:
    client, created = chat_app.test_client(), {"Idempotency-Key": "another-shared-key"}
    client.post("/api/conversations", json={"title": "secret too"}, headers={**user.headers, **created})
    before = everything()
    for key in ("shared-key", "another-shared-key"):
        headers = {**other_user.headers, "Idempotency-Key": key}
        answer = client.post("/api/chat", json={"message": "my own"}, headers=headers)
        assert answer.status_code == 200, answer.get_json()
        assert answer.get_json()["turn"]["id"] != victim["turn_id"]
    assert everything() == before
