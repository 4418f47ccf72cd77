"""Access control of every route and method: each kind of caller gets exactly the declared access.

New routes are included as soon as they are registered. Add a public one to `PUBLIC`, and an object of a new kind in a
path to `OwnedObjects`.
"""

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app.api.access import Access
from app.api.blueprint import Blueprint
from app.config import Settings
from app.enums import KeyScope
from app.extensions import db
from app.services.signing_keys import signing_keys
from tests.api.keys import change_key, make_key
from tests.api.responses import bearer
from tests.contracts.application import OPS_TOKEN, as_served, blueprint_of, path_of, with_ops_token
from tests.contracts.fixtures_by_route import OwnedObjects
from tests.factories import LoggedInUser

PUBLIC = {
    "GET /",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "POST /api/auth/register",
    "POST /api/auth/login",
    "POST /api/auth/password/reset",  # whose body has a token
    "POST /api/auth/password/reset-requests",
    "GET /api/auth/deletions/{receipt_id}",  # whose path has an id that cannot be guessed
    "POST /api/auth/refresh",  # whose view reads the refresh token
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/{name}",
    "GET /.well-known/oauth-protected-resource/mcp",
}
# Bodies of routes that the API's description does not have.
OTHER_BODIES = {"POST /mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}}
ROLES = (Access.OPERATOR, Access.ADMIN)


@dataclass(frozen=True)
class Operation:
    """One method of one route."""

    method: str
    rule: Rule
    blueprint: Blueprint

    def __str__(self) -> str:
        return f"{self.method} {path_of(self.rule)}"

    @property
    def access(self) -> Access:
        return self.blueprint.access

    @property
    def scope(self) -> KeyScope | None:
        """The scope that an API key needs."""
        return self.blueprint.scope_of(self.method)


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """Yield the application as wsgi.py builds it, on the database that `flask_app` has migrated."""
    served = as_served(with_ops_token(settings))
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def operations(served: Flask) -> list[Operation]:
    return [
        Operation(method, rule, blueprint_of(served, rule))
        for rule in served.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"OPTIONS"})  # public on every route
    ]


@pytest.fixture(scope="module")
def bodies(served: Flask) -> dict[str, Any]:
    """Return an example body of each operation, from the API's description."""
    document = served.test_client().get("/openapi.json").json
    assert document is not None
    bodies: dict[str, Any] = {**OTHER_BODIES}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters" and "requestBody" in operation:
                [content] = operation["requestBody"]["content"].values()
                if "example" in content:  # a file
                    bodies[f"{method.upper()} {path}"] = content["example"]
                    continue
                schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                bodies[f"{method.upper()} {path}"] = schema["examples"][0]
    return bodies


@pytest.fixture
def objects(served: Flask, user: LoggedInUser) -> OwnedObjects:
    return OwnedObjects(served, user)


def send(
    flask_app: Flask, operation: Operation, objects: OwnedObjects, headers: dict[str, str], bodies: dict[str, Any]
) -> TestResponse:
    body = bodies.get(str(operation))
    if not isinstance(body, str) and not (isinstance(body, dict) and "file" in body):
        content: dict[str, Any] = {"json": body}
    elif isinstance(body, str):
        content = {"data": body, "query_string": {"name": "a.txt"}}
    else:
        content = {"data": {"file": (io.BytesIO(body["file"].encode()), "a.txt")}}
    return flask_app.test_client().open(
        objects.path(operation.rule), method=operation.method, headers=headers, **content
    )


class RequestSender:
    """Sends requests to the selected operations with given headers and ids, and returns the statuses."""

    def __init__(self, flask_app: Flask, operations: list[Operation], bodies: dict[str, Any]) -> None:
        self.operations = operations
        self._flask_app = flask_app
        self._bodies = bodies

    def __call__(
        self, objects: OwnedObjects, headers: dict[str, str], selected: Callable[[Operation], bool]
    ) -> dict[str, int]:
        statuses = {
            str(operation): send(self._flask_app, operation, objects, headers, self._bodies).status_code
            for operation in self.operations
            if selected(operation)
        }
        assert statuses
        return statuses


@pytest.fixture
def request_all(served: Flask, operations: list[Operation], bodies: dict[str, Any]) -> RequestSender:
    return RequestSender(served, operations, bodies)


def run(engine: Engine, statement: str, **parameters: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), parameters)


def needs_user(operation: Operation) -> bool:
    """Return whether the operation needs a user: it is neither public nor for monitoring."""
    return operation.access not in (Access.PUBLIC, Access.OPS)


def needs_authentication(operation: Operation) -> bool:
    return operation.access is not Access.PUBLIC


def assert_statuses(statuses: dict[str, int], *allowed: int) -> None:
    """Assert that all statuses are among `allowed`."""
    assert {operation: status for operation, status in statuses.items() if status not in allowed} == {}


def test_every_route_declares_access(operations: list[Operation]) -> None:
    """`blueprint_of` fails for a route without access."""
    assert {
        str(operation) for operation in operations if operation.access is Access.PUBLIC and operation.method != "HEAD"
    } == PUBLIC
    assert len(operations) > 40


def test_owner_is_admitted_everywhere(
    served: Flask,
    operations: list[Operation],
    bodies: dict[str, Any],
    engine: Engine,
    make_user: Callable[..., LoggedInUser],
) -> None:
    """The control of the refusals below. Each operation has a new user, because some end the session."""
    refused = {}
    for operation in operations:
        if operation.access in (Access.USER, Access.SESSION, Access.TURN, Access.TICKET):
            objects = OwnedObjects(served, make_user())
            status = send(served, operation, objects, objects.owner.headers, bodies).status_code
            if status >= 400:
                refused[str(operation)] = status
    assert refused == {}


def test_ops_token_is_admitted_to_monitoring(request_all: RequestSender, objects: OwnedObjects) -> None:
    assert_statuses(request_all(objects, bearer(OPS_TOKEN), lambda operation: operation.access is Access.OPS), 200)


@pytest.mark.parametrize(
    "credential",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer a.b.c",
        "Bearer null",
        "Basic YWRhOnBhc3N3b3Jk",
        "Bearer prl_",
        "Bearer eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ4In0.",
    ],
    ids=str,
)
def test_invalid_credential_is_401(request_all: RequestSender, objects: OwnedObjects, credential: str | None) -> None:
    assert_statuses(
        request_all(objects, {} if credential is None else {"Authorization": credential}, needs_authentication), 401
    )


@pytest.mark.parametrize("real", [False, True], ids=["no such key", "wrong secret"])
def test_forged_key_of_owner_is_401(
    served: Flask, request_all: RequestSender, objects: OwnedObjects, real: bool
) -> None:
    key = make_key(served, objects.owner).id if real else UUID(int=1)
    named = base64.urlsafe_b64encode(key.bytes + objects.owner.id.bytes).rstrip(b"=").decode()
    assert_statuses(request_all(objects, bearer(f"prl_{named}_{'A' * 43}"), needs_authentication), 401)


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize(
    ("changed", "secret"),
    [
        ({}, "another-secret-of-enough-characters-0123"),
        ({"exp": datetime.now(UTC) - timedelta(minutes=1)}, None),
        ({"type": "refresh"}, None),
        ({"iss": "elsewhere"}, None),
        ({"aud": "elsewhere"}, None),
        ({"sid": str(UUID(int=1))}, None),
        ({"sid": None}, None),
    ],
    ids=["wrong signature", "expired", "refresh", "issuer", "audience", "no such session", "no session"],
)
def test_token_with_one_wrong_property_is_401(
    served: Flask, request_all: RequestSender, objects: OwnedObjects, changed: dict[str, Any], secret: str | None
) -> None:
    """One property differs from a token of this server; the key id does not."""
    with served.app_context():
        key = signing_keys().current
    claims = {**claims_of(objects.owner.access_token), **changed}
    token = jwt.encode(claims, secret or key.secret, "HS256", headers={"kid": key.id})
    assert_statuses(request_all(objects, bearer(token), needs_authentication), 401)


def test_reencoded_token_is_accepted(served: Flask, request_all: RequestSender, objects: OwnedObjects) -> None:
    """The control of the test above."""
    with served.app_context():
        key = signing_keys().current
    token = jwt.encode(claims_of(objects.owner.access_token), key.secret, "HS256", headers={"kid": key.id})
    assert_statuses(request_all(objects, bearer(token), lambda operation: str(operation) == "GET /api/auth/me"), 200)


def test_other_user_gets_404_and_changes_nothing(
    served: Flask, request_all: RequestSender, objects: OwnedObjects, other_user: LoggedInUser
) -> None:
    """The ids exist but belong to the owner, whose objects must not change."""
    before = objects.seen(served)
    statuses = request_all(
        objects, other_user.headers, lambda operation: needs_user(operation) and bool(operation.rule.arguments)
    )
    closed_to_users = {
        str(operation)
        for operation in request_all.operations
        if operation.access in ROLES or "{user_id}" in str(operation)
    }
    assert {
        operation: status
        for operation, status in statuses.items()
        if status != (403 if operation in closed_to_users else 404)
    } == {}
    assert objects.seen(served) == before


def test_other_users_key_gets_403_or_404_and_changes_nothing(
    served: Flask, request_all: RequestSender, objects: OwnedObjects, other_user: LoggedInUser
) -> None:
    before = objects.seen(served)
    headers = make_key(served, other_user).headers
    # Session routes refuse keys before they look for the object.
    statuses = request_all(objects, headers, lambda operation: needs_user(operation) and bool(operation.rule.arguments))
    roles = {str(operation) for operation in request_all.operations if operation.access in ROLES}
    closed_to_keys = {
        operation: status
        for operation, status in statuses.items()
        if status == 403 and "{user_id}" not in operation and operation not in roles
    }
    assert set(closed_to_keys) == {"DELETE /api/auth/keys/{key_id}", "DELETE /api/auth/sessions/{session_id}"}
    assert_statuses(
        {operation: status for operation, status in statuses.items() if operation not in closed_to_keys}, 403, 404
    )
    assert objects.seen(served) == before


def test_disabled_user_is_401(served: Flask, request_all: RequestSender, objects: OwnedObjects, engine: Engine) -> None:
    key = make_key(served, objects.owner)
    run(engine, "UPDATE users SET status = 'disabled' WHERE id = :u", u=objects.owner.id)
    assert_statuses(request_all(objects, objects.owner.headers, needs_authentication), 401)
    assert_statuses(request_all(objects, key.headers, needs_authentication), 401)


@pytest.mark.parametrize("end", ["revoked_at = now()", "expires_at = now() - interval '1 second'"])
def test_ended_session_is_401(request_all: RequestSender, objects: OwnedObjects, engine: Engine, end: str) -> None:
    run(engine, f"UPDATE sessions SET {end} WHERE user_id = :u", u=objects.owner.id)
    assert_statuses(request_all(objects, objects.owner.headers, needs_authentication), 401)


@pytest.mark.parametrize("end", ["revoked_at = now()", "expires_at = now() - interval '1 second'"])
def test_ended_key_is_401(
    served: Flask, request_all: RequestSender, objects: OwnedObjects, engine: Engine, end: str
) -> None:
    key = make_key(served, objects.owner)
    change_key(engine, key, end)
    assert_statuses(request_all(objects, key.headers, needs_authentication), 401)


@pytest.mark.parametrize("scope", [*KeyScope, None], ids=str)
def test_key_without_scope_is_403(
    served: Flask, request_all: RequestSender, objects: OwnedObjects, scope: KeyScope | None
) -> None:
    """The key has every other scope. None stands for routes that refuse keys."""
    key = make_key(served, objects.owner, [candidate for candidate in KeyScope if candidate is not scope])
    before = objects.seen(served)
    selected = [operation for operation in request_all.operations if needs_user(operation) and operation.scope is scope]
    assert_statuses(request_all(objects, key.headers, lambda operation: operation in selected), 403)
    assert objects.seen(served) == before


def test_user_without_role_is_403(request_all: RequestSender, objects: OwnedObjects) -> None:
    assert_statuses(request_all(objects, objects.owner.headers, lambda operation: operation.access in ROLES), 403)


def test_operator_and_admin_are_admitted_by_role(
    served: Flask, request_all: RequestSender, objects: OwnedObjects, make_user: Callable[..., LoggedInUser]
) -> None:
    operator, admin = make_user(role="operator"), make_user(role="admin")
    for operation, status in request_all(
        objects, operator.headers, lambda operation: operation.access in ROLES
    ).items():
        for_admins = next(route for route in request_all.operations if str(route) == operation).access is Access.ADMIN
        assert (status == 403) == for_admins, (operation, status)
    for operation, status in request_all(objects, admin.headers, lambda operation: operation.access in ROLES).items():
        assert status not in (401, 403), (operation, status)
        assert status < 500 or status == 503, (operation, status)  # without a broker


def test_ops_token_and_user_tokens_are_not_interchangeable(
    served: Flask, request_all: RequestSender, objects: OwnedObjects
) -> None:
    assert_statuses(request_all(objects, bearer(OPS_TOKEN), needs_user), 401)
    for headers in (objects.owner.headers, make_key(served, objects.owner).headers):
        assert_statuses(request_all(objects, headers, lambda operation: operation.access is Access.OPS), 401)


def test_undeclared_method_is_405(served: Flask, operations: list[Operation], objects: OwnedObjects) -> None:
    """Undeclared methods are 405 for all callers."""
    client, mismatches = served.test_client(), {}
    for path in {objects.path(operation.rule) for operation in operations}:
        declared = {operation.method for operation in operations if objects.path(operation.rule) == path} | {"OPTIONS"}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - declared:
            response = client.open(path, method=method, headers=objects.owner.headers)
            if response.status_code != 405 or set(response.allow) != declared:
                mismatches[f"{method} {path}"] = response.status_code
    assert mismatches == {}
