"""What a key opens: exactly what its scopes say, route by route, read from what the blueprints declare."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.api.access import Access, scope_for
from app.api.blueprint import Blueprint
from app.config import Settings
from app.factory import BLUEPRINTS, create_app
from app.models import KeyScope
from app.models.columns import new_id
from tests.api.keys import ALL, Key, make_key, problem
from tests.api.rows import owned_rows
from tests.factories import Account

READ, WRITE, CHAT, ADMIN = KeyScope.READ, KeyScope.WRITE, KeyScope.CHAT, KeyScope.ADMIN


def routes(flask_app: Flask, account: Account) -> Iterator[tuple[Blueprint, str, str]]:
    """Blueprint, method and path of every route that is not for anybody, with ids of nothing but the account."""
    for rule in flask_app.url_map.iter_rules():
        blueprint = flask_app.blueprints.get(rule.endpoint.rpartition(".")[0])
        if isinstance(blueprint, Blueprint) and blueprint.access is not Access.PUBLIC:
            values = {name: str(account.id if name == "user_id" else new_id()) for name in rule.arguments}
            _, path = rule.build(values)  # type: ignore[misc]  # it finds what it is made for
            yield from ((blueprint, method, path) for method in sorted((rule.methods or set()) - {"OPTIONS"}))


def call(client: FlaskClient, method: str, path: str, key: Key) -> TestResponse:
    # A body that every route that chats takes; the others are refused, or not, before they look at it.
    return client.open(path, method=method, json={"message": "hello"}, headers=key.headers)


def test_every_route_without_its_scope_is_403_and_names_it(
    flask_app: Flask, client: FlaskClient, engine: Engine, make_user: Callable[..., Account]
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
        else:
            assert f"`{scope}`" in problem(answer, 403, "not_allowed")["detail"], f"{method} {path}"
        walked += 1
    assert walked > 20
    assert not any(owned_rows(engine, admin).values())


def test_no_key_opens_the_account_its_password_or_its_keys(
    flask_app: Flask, client: FlaskClient, make_user: Callable[..., Account]
) -> None:
    admin = make_user(role="admin")
    key = make_key(flask_app, admin)
    walk = routes(flask_app, admin)
    persons = [(method, path) for blueprint, method, path in walk if blueprint.access is Access.PERSON]
    assert {path.split("/")[3] for _, path in persons} >= {"keys", "me", "password", "logout"}
    for method, path in persons:
        answer = call(client, method, path, key)
        assert answer.status_code == 403, f"{method} {path}"
        if method != "HEAD":
            assert "log in" in problem(answer, 403, "not_allowed")["detail"]
    assert client.get("/api/auth/me", headers=admin.headers).status_code == 200


def test_a_key_is_no_token_to_refresh_with(flask_app: Flask, client: FlaskClient, user: Account) -> None:
    key = make_key(flask_app, user)
    problem(client.post("/api/auth/refresh", headers=key.headers), 401, "not_authenticated")


@pytest.mark.parametrize(
    ("access", "chosen", "reading", "writing"),
    [
        (Access.PUBLIC, None, None, None),
        (Access.PUBLIC, CHAT, None, None),
        (Access.PERSON, None, None, None),
        (Access.PERSON, WRITE, None, None),
        (Access.USER, None, READ, WRITE),
        (Access.USER, CHAT, CHAT, CHAT),
        (Access.TURN, None, CHAT, CHAT),
        (Access.TURN, READ, CHAT, CHAT),
        (Access.OPERATOR, None, ADMIN, ADMIN),
        (Access.OPERATOR, READ, ADMIN, ADMIN),
        (Access.ADMIN, None, ADMIN, ADMIN),
    ],
)
def test_the_scope_that_a_request_needs(
    access: Access, chosen: KeyScope | None, reading: KeyScope | None, writing: KeyScope | None
) -> None:
    assert [scope_for(access, method, chosen) for method in ("GET", "HEAD")] == [reading] * 2
    assert {scope_for(access, method, chosen) for method in ("POST", "PUT", "PATCH", "DELETE", "X")} == {writing}


def test_what_the_blueprints_say() -> None:
    said = {blueprint.name: (blueprint.scope_of("GET"), blueprint.scope_of("POST")) for blueprint in BLUEPRINTS}
    assert said["conversations"] == said["projects"] == said["prompts"] == (READ, WRITE)
    assert said["chat"] == said["turns"] == (CHAT, CHAT)
    assert said["login"] == said["account"] == said["keys"] == said["health"] == (None, None)


@pytest.fixture(scope="module")
def staff_client(settings: Settings, flask_app: Flask) -> FlaskClient:
    """With two routes such as operators and admins have."""
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
def test_the_scope_admin_opens_what_the_role_opens_and_no_more(
    flask_app: Flask,
    staff_client: FlaskClient,
    make_user: Callable[..., Account],
    role: str,
    scopes: list[KeyScope],
    operators: int,
    admins: int,
) -> None:
    """A key made by an admin who is none any more has the scope and not the role."""
    key = make_key(flask_app, make_user(role=role), scopes)
    assert staff_client.get("/staff/operator", headers=key.headers).status_code == operators
    assert staff_client.get("/staff/admin", headers=key.headers).status_code == admins
