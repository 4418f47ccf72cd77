"""Every route returns 404 for another user's resources and changes nothing.

The routes are read from the application, so a new one is tried without a change here. A new kind of id in a path needs
an entry in `victim`. A route that validates its body before it looks up the resource needs an entry in BODIES.
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
from tests.bundling import bundle_conversation
from tests.contracts.application import as_served
from tests.factories import LoggedInUser

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
# Valid bodies of routes that validate the body before they look up the resource in their path.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/<string:user_id>/chat"): {"message": "changed"},
    ("POST", "/api/projects/<uuid:project_id>/prompts"): {"title": "new", "content": "new"},
    ("PATCH", "/api/conversations/<uuid:conversation_id>"): {"title": "changed", "metadata": {"changed": True}},
    ("PATCH", "/api/projects/<uuid:project_id>"): {"name": "changed"},
    ("PATCH", "/api/projects/<uuid:project_id>/prompts/<uuid:prompt_id>"): {"title": "changed"},
    ("PATCH", "/api/tasks/<uuid:todo_id>"): {"title": "changed"},
    ("POST", "/api/turns/<uuid:turn_id>/tool_approvals"): {"approved": []},
}
QUERIES = {("PUT", "/api/projects/<uuid:project_id>/files"): {"name": "a.txt"}}


@pytest.fixture(scope="module")
def chat_app(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """Build the application of wsgi.py, with the operators' routes, on the migrated database."""
    served = as_served(settings)
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.fixture
def victim(chat_app: Flask, user: LoggedInUser) -> dict[str, str]:
    """Create one resource of each kind that belongs to `user`; return the ids by path parameter."""
    client = chat_app.test_client()

    def create(path: str, body: dict[str, Any], **headers: str) -> Any:
        response = client.post(path, json=body, headers={**user.headers, **headers})
        assert response.status_code in (200, 201), response.json
        return response.get_json()

    project = create("/api/projects", {"name": "secret project"})["id"]
    prompt = create(
        f"/api/projects/{project}/prompts", {"title": "secret", "content": "secret prompt", "draft": "secret"}
    )["id"]
    todo = create("/api/tasks", {"title": "secret task", "description": "secret"})["id"]
    chat = create("/api/chat", {"message": "a secret", "project_id": project}, **{"Idempotency-Key": "shared-key"})
    key = create("/api/auth/keys", {"name": "secret key", "scopes": ["read"]})["id"]
    file = client.put("/api/files?name=secret.txt", data=b"a secret file", headers=user.headers).get_json()["id"]
    return {
        "user_id": str(user.id),
        "project_id": project,
        "prompt_id": prompt,
        "number": "1",
        "conversation_id": chat["conversation"]["id"],
        "turn_id": chat["turn"]["id"],
        "todo_id": todo,
        "key_id": key,
        "file_id": file,
        "server": "weather",
        "session_id": str(user.session_id),
        "queue": "interactive",
        "acknowledgement_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "deletion_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "receipt_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "job_name": "search.sweep",
        "run_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "hold_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "provider": "demo",
    }


@pytest.fixture
def in_state(chat_app: Flask, victim: dict[str, str], user: LoggedInUser, engine: Engine) -> Callable[[str], None]:
    """Return a function that brings the victim's conversation and turn into a state."""

    def set_state(state: str) -> None:
        if state == "bundled":
            with chat_app.app_context():
                bundle_conversation(user.id, victim["conversation_id"])
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

    return set_state


@pytest.fixture
def read_owned_rows(engine: Engine, user: LoggedInUser) -> Callable[[], dict[str, list[Any]]]:
    """Return a function that reads every row of `user`, by table."""

    def read() -> dict[str, list[Any]]:
        with engine.connect() as connection:
            columns = connection.execute(
                text("""
                SELECT c.table_name, c.column_name
                  FROM information_schema.columns c JOIN pg_tables t ON t.tablename = c.table_name
                 WHERE t.schemaname = 'public' AND c.table_schema = 'public'
                   AND (c.column_name = 'user_id' OR (c.table_name, c.column_name) = ('users', 'id'))""")
            ).all()
            assert len(columns) >= 8
            return {
                table: list(
                    connection.execute(
                        text(f"SELECT to_jsonb(t)::text FROM {table} t WHERE {column} = :u ORDER BY 1"), {"u": user.id}
                    ).scalars()
                )
                for table, column in columns
            }

    return read


def routes_with_ids(flask_app: Flask) -> list[tuple[Rule, str]]:
    """Return rule and method of each route with a path parameter."""
    return [
        (rule, method)
        for rule in flask_app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"OPTIONS"})
        if rule.arguments
    ]


def access_of(flask_app: Flask, rule: Rule) -> Access | None:
    """Return the access that the route's blueprint declares; None for a foreign blueprint."""
    blueprint = flask_app.blueprints.get(rule.endpoint.rpartition(".")[0])
    return blueprint.access if isinstance(blueprint, Blueprint) else None


def path_of(flask_app: Flask, rule: Rule, ids: dict[str, str]) -> str:
    """Build the route's path with the given ids."""
    unknown = rule.arguments - set(ids)
    assert not unknown, f"{rule.rule} has unknown parameters: add {unknown} to `victim`"
    with flask_app.test_request_context():
        built = rule.build({name: ids[name] for name in rule.arguments})
        assert built is not None
        return built[1]


@pytest.mark.parametrize("state", ["ended", "running", "bundled"])
def test_path_with_another_users_id_returns_404_and_changes_nothing(
    chat_app: Flask,
    victim: dict[str, str],
    in_state: Callable[[str], None],
    other_user: LoggedInUser,
    read_owned_rows: Callable[[], dict[str, list[Any]]],
    state: str,
) -> None:
    in_state(state)
    client, before, count = chat_app.test_client(), read_owned_rows(), 0
    for rule, method in routes_with_ids(chat_app):
        access = access_of(chat_app, rule)
        if access in (None, Access.PUBLIC):  # without an owner
            continue
        path = path_of(chat_app, rule, victim)
        assert method != "PATCH" or access in (Access.OPERATOR, Access.ADMIN) or (method, rule.rule) in BODIES, (
            f"{rule.rule} needs a change in BODIES, because an empty one may be rejected first"
        )
        body = BODIES.get((method, rule.rule), {}) if method in UNSAFE else None
        query = QUERIES.get((method, rule.rule))
        response = client.open(path, method=method, headers=other_user.headers, json=body, query_string=query)
        request = f"{method} {rule.rule}: {response.status_code} {response.get_data()[:300]!r}"
        if access in (Access.OPERATOR, Access.ADMIN):
            assert response.status_code == 403, request
        elif "user_id" in rule.arguments:
            assert response.status_code in (403, 404), request
        else:
            assert response.status_code == 404, f"{request}; if it validates a body first, add one to BODIES"
        assert b"secret" not in response.get_data(), request
        count += 1
    assert count >= 15
    assert read_owned_rows() == before


def test_lists_contain_no_other_users_resources(
    chat_app: Flask, victim: dict[str, str], user: LoggedInUser, other_user: LoggedInUser
) -> None:
    client, count = chat_app.test_client(), 0
    ids = {
        victim[name].encode()
        for name in ("user_id", "project_id", "prompt_id", "conversation_id", "turn_id", "key_id", "todo_id")
    }
    for rule in chat_app.url_map.iter_rules():
        access = access_of(chat_app, rule)
        if rule.arguments or "GET" not in (rule.methods or ()) or access not in (Access.USER, Access.SESSION):
            continue
        for query in (
            "",
            "?limit=100&q=secret",
            "?limit=100&status=active&q=secret",
        ):  # a list rejects unknown parameters
            bodies = {
                caller.id: client.get(
                    rule.rule + query, headers={**caller.headers, "Accept-Encoding": "identity"}
                ).get_data()
                for caller in (user, other_user)
            }
            for value in (*ids, b"secret"):
                assert value not in bodies[other_user.id], rule.rule
            count += any(value in bodies[user.id] for value in ids)
    assert count >= 4, "too few lists contain the owner's resources"


def id_fields(flask_app: Flask) -> set[tuple[str, str, str]]:
    """Return (method, path, field) of each id in a body or a query, from the OpenAPI document."""
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

    fields = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            queries = [item for item in map(resolved, operation.get("parameters", ())) if item["in"] == "query"]
            fields |= {(method.upper(), path, query["name"]) for query in queries if list(ids_in(query["schema"]))}
            bodies = operation.get("requestBody", {}).get("content", {}).values()
            fields |= {(method.upper(), path, name) for body in bodies for name in ids_in(body.get("schema", {}))}
    return fields


# Ids in an imported document, which the import ignores.
IGNORED_IDS = {
    ("POST", "/api/conversations/import", name)
    for name in ("conversation.id", "conversation.project_id", "messages.turn_id")
}


def test_body_or_query_with_another_users_id_reaches_nothing(
    chat_app: Flask,
    victim: dict[str, str],
    other_user: LoggedInUser,
    read_owned_rows: Callable[[], dict[str, list[Any]]],
) -> None:
    client, before = chat_app.test_client(), read_owned_rows()
    headers, user_id = other_user.headers, str(other_user.id)
    own_conversation = client.post("/api/conversations", json={"title": "own"}, headers=headers).get_json()["id"]
    own_project = client.post("/api/projects", json={"name": "own"}, headers=headers).get_json()["id"]
    paths = {"user_id": user_id, "conversation_id": own_conversation, "project_id": own_project}
    foreign: dict[str, Any] = {**victim, "files": [victim["file_id"]]}
    requests = set()
    for method, path, name in id_fields(chat_app) - IGNORED_IDS:
        if path.startswith("/api/admin/"):
            continue
        if method == "GET":  # a filter by an unknown id returns an empty list
            response = client.get(path.format(**paths), query_string={name: foreign[name]}, headers=headers)
            assert response.get_json()["items"] == [], (method, path, name)
        else:
            body = {**({"message": "hi"} if path.endswith("/chat") else {}), name: foreign[name]}
            response = client.open(path.format(**paths), method=method, json=body, headers=headers)
            assert response.status_code == 404, (method, path, name, response.json)
        requests.add((method, path, name))
    assert len(requests) >= 7
    prompt = f"/api/projects/{own_project}/prompts/{victim['prompt_id']}"
    for method, change in (("PATCH", {"title": "changed"}), ("GET", None), ("DELETE", None)):
        assert client.open(prompt, method=method, json=change, headers=headers).status_code == 404, method
    for owner in ("user_id", "id", "role"):
        for path in ("/api/conversations", "/api/chat", "/api/projects"):
            body = {"message": "hi"} if path == "/api/chat" else {"name": "n"} if "projects" in path else {}
            response = client.post(path, json={**body, owner: victim["user_id"]}, headers=headers)
            assert response.status_code == 400, (path, owner)
    assert read_owned_rows() == before


def test_idempotency_key_is_scoped_to_its_user(
    chat_app: Flask,
    victim: dict[str, str],
    user: LoggedInUser,
    other_user: LoggedInUser,
    read_owned_rows: Callable[[], dict[str, list[Any]]],
) -> None:
    client, created = chat_app.test_client(), {"Idempotency-Key": "another-shared-key"}
    client.post("/api/conversations", json={"title": "secret too"}, headers={**user.headers, **created})
    before = read_owned_rows()
    for key in ("shared-key", "another-shared-key"):
        headers = {**other_user.headers, "Idempotency-Key": key}
        answer = client.post("/api/chat", json={"message": "my own"}, headers=headers)
        assert answer.status_code == 200, answer.get_json()
        assert answer.get_json()["turn"]["id"] != victim["turn_id"]
    assert read_owned_rows() == before
