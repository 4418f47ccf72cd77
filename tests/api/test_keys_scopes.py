"""Scopes of API keys: each route, as its blueprint declares."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.api.access import Access, scope_for
from app.api.blueprint import Blueprint
from app.config import Settings
from app.enums import KeyScope
from app.factory import BLUEPRINTS, create_app
from app.ids import new_id
from tests.api.keys import ALL, Key, make_key
from tests.api.responses import assert_problem
from tests.api.rows import owned_rows
from tests.factories import LoggedInUser

READ, WRITE, CHAT, ADMIN = KeyScope.READ, KeyScope.WRITE, KeyScope.CHAT, KeyScope.ADMIN


def routes(flask_app: Flask, account: LoggedInUser) -> Iterator[tuple[Blueprint, str, str]]:
    """Yield blueprint, method and path of every route that is not public; all ids in it are those of the user."""
    for rule in flask_app.url_map.iter_rules():
        blueprint = flask_app.blueprints.get(rule.endpoint.rpartition(".")[0])
        if isinstance(blueprint, Blueprint) and blueprint.access is not Access.PUBLIC:
            values = {name: str(account.id if name == "user_id" else new_id()) for name in rule.arguments}
            values |= dict.fromkeys(rule.arguments & {"number"}, "1")
            _, path = rule.build(values)  # type: ignore[misc]  # a rule of the map always builds
            yield from ((blueprint, method, path) for method in sorted((rule.methods or set()) - {"OPTIONS"}))


def call(client: FlaskClient, method: str, path: str, key: Key) -> TestResponse:
    # A body for chat; other routes check the scope before they parse it.
    return client.open(path, method=method, json={"message": "hello"}, headers=key.headers)


def test_route_without_scope_is_403_and_names_scope(
    flask_app: Flask, client: FlaskClient, engine: Engine, make_user: Callable[..., LoggedInUser]
) -> None:
    admin = make_user(role="admin")
    lacking = {scope: make_key(flask_app, admin, set(ALL) - {scope}) for scope in ALL}
    walked = 0
    for blueprint, method, path in routes(flask_app, admin):
        scope = blueprint.scope_of(method)
        if scope is None:
            continue
        answer = call(client, method, path, lacking[scope])
        if method == "HEAD":
            assert answer.status_code == 403, path
        elif not blueprint.documented:  # its errors have the form of another protocol
            assert (answer.status_code, f"`{scope}`" in answer.text) == (403, True), path
        else:
            assert f"`{scope}`" in assert_problem(answer, 403, "not_allowed")["detail"], f"{method} {path}"
        walked += 1
    assert walked > 20
    assert not any(owned_rows(engine, admin).values())


def test_session_routes_refuse_keys(
    flask_app: Flask, client: FlaskClient, make_user: Callable[..., LoggedInUser]
) -> None:
    admin = make_user(role="admin")
    key = make_key(flask_app, admin)
    walk = routes(flask_app, admin)
    session_routes = [(method, path) for blueprint, method, path in walk if blueprint.access is Access.SESSION]
    assert {path.split("/")[3] for _, path in session_routes} >= {"keys", "me", "password", "logout"}
    for method, path in session_routes:
        answer = call(client, method, path, key)
        assert answer.status_code == 403, f"{method} {path}"
        if method != "HEAD":
            assert "log in" in assert_problem(answer, 403, "not_allowed")["detail"]
    assert client.get("/api/auth/me", headers=admin.headers).status_code == 200


def test_refresh_with_key_is_401(flask_app: Flask, client: FlaskClient, user: LoggedInUser) -> None:
    key = make_key(flask_app, user)
    assert_problem(client.post("/api/auth/refresh", headers=key.headers), 401, "not_authenticated")


@pytest.mark.parametrize(
    ("access", "chosen", "reading", "writing"),
    [
        (Access.PUBLIC, None, None, None),
        (Access.PUBLIC, CHAT, None, None),
        (Access.SESSION, None, None, None),
        (Access.SESSION, WRITE, None, None),
        (Access.USER, None, READ, WRITE),
        (Access.USER, CHAT, CHAT, CHAT),
        (Access.TURN, None, CHAT, CHAT),
        (Access.TURN, READ, CHAT, CHAT),
        (Access.TICKET, CHAT, CHAT, CHAT),
        (Access.OPERATOR, None, ADMIN, ADMIN),
        (Access.OPERATOR, READ, ADMIN, ADMIN),
        (Access.ADMIN, None, ADMIN, ADMIN),
    ],
)
def test_scope_for_access_and_method(
    access: Access, chosen: KeyScope | None, reading: KeyScope | None, writing: KeyScope | None
) -> None:
    assert [scope_for(access, method, chosen) for method in ("GET", "HEAD")] == [reading] * 2
    assert {scope_for(access, method, chosen) for method in ("POST", "PUT", "PATCH", "DELETE", "X")} == {writing}


def test_scopes_of_blueprints() -> None:
    scopes = {blueprint.name: (blueprint.scope_of("GET"), blueprint.scope_of("POST")) for blueprint in BLUEPRINTS}
    assert scopes["conversations"] == scopes["projects"] == scopes["prompts"] == scopes["tasks"] == (READ, WRITE)
    assert scopes["chat"] == scopes["turns"] == scopes["turn_events"] == (CHAT, CHAT)
    assert scopes["login"] == scopes["account"] == scopes["keys"] == scopes["health"] == (None, None)


@pytest.fixture(scope="module")
def staff_client(settings: Settings, flask_app: Flask) -> FlaskClient:
    """Return a client of an application with one route for operators and one for admins."""
    blueprints = []
    for access in (Access.OPERATOR, Access.ADMIN):
        blueprint = Blueprint(f"for_{access.value}", __name__, access=access)
        blueprint.add_url_rule(f"/staff/{access.value}", "look", lambda: "ok")
        blueprints.append(blueprint)
    return create_app(settings, blueprints).test_client()


@pytest.mark.parametrize(
    ("role", "scopes", "operators", "admins"),
    [
        ("user", ALL, 403, 403),
        ("operator", ALL, 200, 403),
        ("operator", [READ, WRITE, CHAT], 403, 403),
        ("admin", ALL, 200, 200),
        ("admin", [ADMIN], 200, 200),
        ("admin", [READ, WRITE, CHAT], 403, 403),
    ],
)
def test_admin_scope_requires_role(
    flask_app: Flask,
    staff_client: FlaskClient,
    make_user: Callable[..., LoggedInUser],
    role: str,
    scopes: list[KeyScope],
    operators: int,
    admins: int,
) -> None:
    """A key keeps the scope when its owner is no longer an admin."""
    key = make_key(flask_app, make_user(role=role), scopes)
    assert staff_client.get("/staff/operator", headers=key.headers).status_code == operators
    assert staff_client.get("/staff/admin", headers=key.headers).status_code == admins
