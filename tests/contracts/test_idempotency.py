"""Every POST either supports `Idempotency-Key` or is listed here with a reason."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app.api.access import Access
from app.config import Settings
from app.extensions import db
from tests.contracts.application import as_served, blueprint_of, offline, path_of, with_ops_token
from tests.contracts.fixtures_by_route import OwnedObjects
from tests.factories import LoggedInUser

SECRET = "its response contains secrets, which are not stored"
ITSELF = "it is idempotent"
FILE = "PUT uploads the same file once"
# These are not protected against repetition, so keep the list short.
WITHOUT = {
    "POST /api/auth/register": SECRET,
    "POST /api/auth/login": SECRET,
    "POST /api/auth/refresh": SECRET,
    "POST /api/auth/keys": SECRET,
    "POST /api/auth/password": "the second request has the wrong current password",
    "POST /api/auth/email": ITSELF,
    "POST /api/auth/delete": "the first request ends the session that the second one needs",
    "POST /api/auth/password/reset": "the token is valid once",
    "POST /api/auth/password/reset-requests": "it creates nothing of a caller; its number per hour is limited",
    "POST /api/auth/logout": ITSELF,
    "POST /api/files": FILE,
    "POST /api/projects/{project_id}/files": FILE,
    "POST /api/conversations/{conversation_id}/archive": ITSELF,
    "POST /api/conversations/{conversation_id}/unarchive": ITSELF,
    "POST /api/projects/{project_id}/prompts/{prompt_id}/publish": "the second request finds no draft",
    "POST /api/projects/{project_id}/prompts/{prompt_id}/versions/{number}/restore": ITSELF,
    "POST /api/tasks/{todo_id}/complete": ITSELF,
    "POST /api/turns/{turn_id}/cancel": ITSELF,
    "POST /api/turns/{turn_id}/ticket": SECRET,
    "POST /mcp": "its tools that create something take the key; the others may be repeated",
    "POST /api/admin/checks/acknowledgements": "a repeated request replaces reason and end date",
    "POST /api/admin/database/sessions/end": "the second request finds no such session",
    "POST /api/admin/mcp": "the second request has a name that is taken",
    "POST /api/admin/mcp/secrets/rotate": ITSELF,
    "POST /api/admin/mcp/{server}/test": "it creates nothing; a repeated request tests the server again",
    "POST /api/admin/mcp/{server}/allow": ITSELF,
    "POST /api/admin/mcp/{server}/disallow": "the second request finds no such allowed tool",
    "POST /api/admin/mcp/{server}/enable": ITSELF,
    "POST /api/admin/mcp/{server}/disable": ITSELF,
    "POST /api/admin/providers/{provider}/test": "it creates nothing; a repeated request tests the provider again",
    "POST /api/admin/users": "the second request has an email that is taken",
    "POST /api/admin/users/{user_id}/disable": ITSELF,
    "POST /api/admin/users/{user_id}/enable": ITSELF,
    "POST /api/admin/users/{user_id}/logout": ITSELF,
    "POST /api/admin/users/{user_id}/erase": "a second erasure of the same user is refused",
    "POST /api/admin/users/{user_id}/export": "it creates nothing; each export is in the audit",
    "POST /api/admin/archive/runs/{run_id}/undo": ITSELF,
    "POST /api/admin/archive/conversations/{conversation_id}/restore": ITSELF,
    "POST /api/admin/users/{user_id}/conversations/{conversation_id}/read": "it creates nothing",
    "POST /api/admin/archive/users/{user_id}/restore": ITSELF,
    "POST /api/admin/backups/verify": ITSELF,
    "POST /api/admin/backups/drill": ITSELF,
    "POST /api/admin/backups/prune": ITSELF,
    "POST /api/admin/archive/holds": "a second hold has the same effect as one",
    "POST /api/admin/indexes/apply": "a step that is already applied is skipped",
    "POST /api/admin/jobs/queues/{queue}/purge": ITSELF,
    "POST /api/admin/jobs/runs/{run_id}/cancel": ITSELF,
    "POST /api/admin/jobs/runs/{run_id}/retry": "the second run finds the work done: jobs are idempotent",
    "POST /api/admin/jobs/{job_name}/runs": "a job runs once at a time and is idempotent",
}
ON_ITS_TURN = {"POST /api/chat", "POST /api/{user_id}/chat", "POST /api/turns/{turn_id}/tool_approvals"}


def posts(flask_app: Flask) -> dict[str, Rule]:
    return {
        f"POST {path_of(rule)}": rule
        for rule in flask_app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and rule.endpoint != "static"
    }


def described() -> dict[str, dict[str, Any]]:
    """Return the operation of each POST in the API's description."""
    document = offline().test_client().get("/openapi.json").json
    assert document is not None
    return {f"POST {path}": item["post"] for path, item in document["paths"].items() if "post" in item}


def takes_a_key(operation: dict[str, Any]) -> bool:
    return any(parameter.get("name") == "Idempotency-Key" for parameter in operation["parameters"])


DESCRIBED = described()
TAKING = sorted(name for name, operation in DESCRIBED.items() if takes_a_key(operation))


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    served = as_served(with_ops_token(settings))
    yield served
    with served.app_context():
        db.engine.dispose()


def test_post_supports_key_or_is_listed() -> None:
    assert set(posts(offline())) - set(TAKING) == set(WITHOUT)


@pytest.mark.parametrize("name", TAKING)
def test_description_has_replay_headers_and_statuses(name: str) -> None:
    responses = DESCRIBED[name]["responses"]
    assert {"400", "409", "422"} <= set(responses)
    if name not in ON_ITS_TURN:
        [created] = [response for status, response in responses.items() if status.startswith("2")]
        assert {"Location", "Idempotency-Replayed"} <= set(created["headers"])


@pytest.mark.parametrize("name", sorted(set(TAKING) - ON_ITS_TURN))
def test_repeated_request_creates_once(
    name: str, served: Flask, user: LoggedInUser, engine: Engine, stored: Callable[[], dict[str, int]]
) -> None:
    rule = posts(served)[name]
    blueprint = blueprint_of(served, rule)
    if blueprint.access in (Access.OPERATOR, Access.ADMIN):
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET role = 'admin' WHERE id = :u"), {"u": user.id})
    path, body = OwnedObjects(served, user).path(rule), body_of(name)

    def ask(changed: dict[str, Any], key: str = "k") -> TestResponse:
        headers = user.headers | {"Idempotency-Key": key}
        return served.test_client().post(path, json=changed, headers=headers)

    before = stored()
    first = ask(body)
    assert 200 <= first.status_code < 300, first.text
    after = stored()
    assert after != before
    repeated = ask(body)
    assert (repeated.status_code, repeated.data) == (first.status_code, first.data)
    assert (repeated.headers["Location"], repeated.headers["Idempotency-Replayed"]) == (
        first.headers["Location"],
        "true",
    )
    assert stored() == after
    assert 422 in {ask(changed).status_code for changed in changes(body)}
    assert stored() == after
    assert ask(body, key="another").data != first.data


def body_of(name: str) -> dict[str, Any]:
    document = offline().test_client().get("/openapi.json").json
    assert document is not None
    [content] = DESCRIBED[name]["requestBody"]["content"].values()
    example = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["examples"][0]
    return dict(example)


def changes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield `node` with one of its strings changed, each in turn; some are invalid requests."""
    for place in list(_texts(node, ())):
        changed = copy.deepcopy(node)
        *way, last = place
        inner: Any = changed
        for step in way:
            inner = inner[step]
        inner[last] += "!"
        yield changed


def _texts(node: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(inner, str):
            yield *place, key
        elif isinstance(inner, dict | list):
            yield from _texts(inner, (*place, key))


@pytest.fixture
def stored(engine: Engine, user: LoggedInUser) -> Callable[[], dict[str, int]]:
    """Return a function that counts the user's rows by table."""
    owned = text(
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'user_id'"
        " AND table_schema = 'public' AND table_name <> 'api_keys'"
    )  # api_keys changes with each use

    def count() -> dict[str, int]:
        with engine.connect() as connection:
            return {
                table: connection.execute(
                    text(f"SELECT count(*) FROM {table} WHERE user_id = :u"), {"u": user.id}
                ).scalar_one()
                for table in connection.execute(owned).scalars().all()
            }

    return count
