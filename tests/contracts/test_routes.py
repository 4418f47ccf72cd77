"""Every route and method of the application, tried by everybody who may not: they get what is declared, and no more.

A new route is walked as soon as it is registered. Where it is public it must be added to `PUBLIC` here, and where its
path holds an id of a new kind, a thing of that kind to `Things`.
"""

import base64
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
from app.extensions import db
from app.models import KeyScope
from app.services.signing_keys import signing_keys
from tests.api.keys import bearer, change_key, make_key
from tests.contracts.application import OPS_TOKEN, as_served, blueprint_of, path_of, with_ops_token
from tests.contracts.things import Things
from tests.factories import Account

PUBLIC = {
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "POST /api/auth/register",
    "POST /api/auth/login",
    "POST /api/auth/refresh",  # whose view reads the refresh token
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/{name}",
}
ROLES = (Access.OPERATOR, Access.ADMIN)


@dataclass(frozen=True)
class Stop:
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
        """What an API key needs."""
        return self.blueprint.scope_of(self.method)


@pytest.fixture(scope="module")
def served(settings: Settings, flask_app: Flask) -> Iterator[Flask]:
    """As wsgi.py builds it, on the database that `flask_app` has migrated."""
    served = as_served(with_ops_token(settings))
    yield served
    with served.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def stops(served: Flask) -> list[Stop]:
    return [
        Stop(method, rule, blueprint_of(served, rule))
        for rule in served.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"OPTIONS"})  # which tells methods, to anybody
    ]


@pytest.fixture(scope="module")
def bodies(served: Flask) -> dict[str, Any]:
    """A body that each operation takes, from the API's description."""
    document = served.test_client().get("/openapi.json").json
    assert document is not None
    found = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters" and "requestBody" in operation:
                [content] = operation["requestBody"]["content"].values()
                schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
                found[f"{method.upper()} {path}"] = schema["examples"][0]
    return found


@pytest.fixture
def things(served: Flask, user: Account) -> Things:
    return Things(served, user)


def visit(
    flask_app: Flask, stop: Stop, things: Things, headers: dict[str, str], bodies: dict[str, Any]
) -> TestResponse:
    return flask_app.test_client().open(
        things.path(stop.rule), method=stop.method, headers=headers, json=bodies.get(str(stop))
    )


class Walk:
    """Goes wherever it is told to, with these headers and the ids of `things`, and returns the statuses."""

    def __init__(self, flask_app: Flask, stops: list[Stop], bodies: dict[str, Any]) -> None:
        self.stops = stops
        self._flask_app = flask_app
        self._bodies = bodies

    def __call__(self, things: Things, headers: dict[str, str], where: Callable[[Stop], bool]) -> dict[str, int]:
        statuses = {
            str(stop): visit(self._flask_app, stop, things, headers, self._bodies).status_code
            for stop in self.stops
            if where(stop)
        }
        assert statuses
        return statuses


@pytest.fixture
def walk(served: Flask, stops: list[Stop], bodies: dict[str, Any]) -> Walk:
    return Walk(served, stops, bodies)


def run(engine: Engine, statement: str, **parameters: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), parameters)


def for_somebody(stop: Stop) -> bool:
    """Not for everybody, and not by a token that this server was started with."""
    return stop.access not in (Access.PUBLIC, Access.OPS)


def closed(stop: Stop) -> bool:
    return stop.access is not Access.PUBLIC


def only(statuses: dict[str, int], *allowed: int) -> None:
    """All of them must be among these."""
    assert {stop: status for stop, status in statuses.items() if status not in allowed} == {}


def test_every_route_declares_who_may_enter(stops: list[Stop]) -> None:
    """`blueprint_of` has failed already for a route of no blueprint of ours."""
    assert {str(stop) for stop in stops if stop.access is Access.PUBLIC and stop.method != "HEAD"} == PUBLIC
    assert len(stops) > 40


def test_what_the_owner_sends_is_let_in(
    served: Flask, stops: list[Stop], bodies: dict[str, Any], engine: Engine, make_user: Callable[..., Account]
) -> None:
    """So that the refusals below are of the caller and of nothing else. Each stop is for somebody new: some of them end
    what others would need."""
    refused = {}
    for stop in stops:
        if stop.access in (Access.USER, Access.PERSON, Access.TURN):
            things = Things(served, make_user())
            status = visit(served, stop, things, things.owner.headers, bodies).status_code
            if status >= 400:
                refused[str(stop)] = status
    assert refused == {}


def test_the_ops_token_opens_what_is_for_its_holder(walk: Walk, things: Things) -> None:
    only(walk(things, bearer(OPS_TOKEN), lambda stop: stop.access is Access.OPS), 200)


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
def test_nobody(walk: Walk, things: Things, credential: str | None) -> None:
    only(walk(things, {} if credential is None else {"Authorization": credential}, closed), 401)


@pytest.mark.parametrize("real", [False, True], ids=["no such key", "wrong secret"])
def test_a_forged_key_of_the_owners(served: Flask, walk: Walk, things: Things, real: bool) -> None:
    key = make_key(served, things.owner).id if real else UUID(int=1)
    named = base64.urlsafe_b64encode(key.bytes + things.owner.id.bytes).rstrip(b"=").decode()
    only(walk(things, bearer(f"prl_{named}_{'A' * 43}"), closed), 401)


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
def test_a_token_that_is_not_quite_right(
    served: Flask, walk: Walk, things: Things, changed: dict[str, Any], secret: str | None
) -> None:
    """Everything about it but one thing is as this server made it, the name of the key too."""
    with served.app_context():
        key = signing_keys().current
    claims = {**claims_of(things.owner.access_token), **changed}
    token = jwt.encode(claims, secret or key.secret, "HS256", headers={"kid": key.id})
    only(walk(things, bearer(token), closed), 401)


def test_the_token_as_it_was_made_and_encoded_anew_is_right(served: Flask, walk: Walk, things: Things) -> None:
    """That is, the test above fails its tokens for what was changed."""
    with served.app_context():
        key = signing_keys().current
    token = jwt.encode(claims_of(things.owner.access_token), key.secret, "HS256", headers={"kid": key.id})
    only(walk(things, bearer(token), lambda stop: str(stop) == "GET /api/auth/me"), 200)


def test_somebody_else(served: Flask, walk: Walk, things: Things, other_user: Account) -> None:
    """With ids that are real, but not theirs. Afterwards all of it is as it was."""
    before = things.seen(served)
    statuses = walk(things, other_user.headers, lambda stop: for_somebody(stop) and bool(stop.rule.arguments))
    closed_to_users = {str(stop) for stop in walk.stops if stop.access in ROLES or "{user_id}" in str(stop)}
    assert {
        stop: status for stop, status in statuses.items() if status != (403 if stop in closed_to_users else 404)
    } == {}
    assert things.seen(served) == before


def test_somebody_elses_key(served: Flask, walk: Walk, things: Things, other_user: Account) -> None:
    before = things.seen(served)
    headers = make_key(served, other_user).headers
    # What is for persons alone is closed to any key, before anything is looked for.
    statuses = walk(things, headers, lambda stop: for_somebody(stop) and bool(stop.rule.arguments))
    roles = {str(stop) for stop in walk.stops if stop.access in ROLES}
    closed_to_keys = {
        stop: status
        for stop, status in statuses.items()
        if status == 403 and "{user_id}" not in stop and stop not in roles
    }
    assert set(closed_to_keys) == {"DELETE /api/auth/keys/{key_id}"}
    only({stop: status for stop, status in statuses.items() if stop not in closed_to_keys}, 403, 404)
    assert things.seen(served) == before


def test_a_disabled_user(served: Flask, walk: Walk, things: Things, engine: Engine) -> None:
    key = make_key(served, things.owner)
    run(engine, "UPDATE users SET status = 'disabled' WHERE id = :u", u=things.owner.id)
    only(walk(things, things.owner.headers, closed), 401)
    only(walk(things, key.headers, closed), 401)


@pytest.mark.parametrize("end", ["revoked_at = now()", "expires_at = now() - interval '1 second'"])
def test_an_ended_session(walk: Walk, things: Things, engine: Engine, end: str) -> None:
    run(engine, f"UPDATE sessions SET {end} WHERE user_id = :u", u=things.owner.id)
    only(walk(things, things.owner.headers, closed), 401)


@pytest.mark.parametrize("end", ["revoked_at = now()", "expires_at = now() - interval '1 second'"])
def test_an_ended_key(served: Flask, walk: Walk, things: Things, engine: Engine, end: str) -> None:
    key = make_key(served, things.owner)
    change_key(engine, key, end)
    only(walk(things, key.headers, closed), 401)


@pytest.mark.parametrize("scope", [*KeyScope, None], ids=str)
def test_a_key_without_the_scope(served: Flask, walk: Walk, things: Things, scope: KeyScope | None) -> None:
    """Every other scope is there. None: what no key opens."""
    key = make_key(served, things.owner, [each for each in KeyScope if each is not scope])
    before = things.seen(served)
    where = [stop for stop in walk.stops if for_somebody(stop) and stop.scope is scope]
    only(walk(things, key.headers, lambda stop: stop in where), 403)
    assert things.seen(served) == before


def test_somebody_without_a_role(walk: Walk, things: Things) -> None:
    only(walk(things, things.owner.headers, lambda stop: stop.access in ROLES), 403)


def test_an_operator_is_let_in_where_operators_are_and_an_admin_everywhere(
    served: Flask, walk: Walk, things: Things, make_user: Callable[..., Account]
) -> None:
    operator, admin = make_user(role="operator"), make_user(role="admin")
    for stop, status in walk(things, operator.headers, lambda stop: stop.access in ROLES).items():
        for_admins = next(each for each in walk.stops if str(each) == stop).access is Access.ADMIN
        assert (status == 403) == for_admins, (stop, status)
    for stop, status in walk(things, admin.headers, lambda stop: stop.access in ROLES).items():
        assert status not in (401, 403), (stop, status)
        assert status < 500 or status == 503, (stop, status)  # there is no broker here


def test_tokens_open_only_their_own_door(served: Flask, walk: Walk, things: Things) -> None:
    only(walk(things, bearer(OPS_TOKEN), for_somebody), 401)
    for headers in (things.owner.headers, make_key(served, things.owner).headers):
        only(walk(things, headers, lambda stop: stop.access is Access.OPS), 401)


def test_the_other_methods_are_nobodys(served: Flask, stops: list[Stop], things: Things) -> None:
    """405, whoever asks: nothing that is not declared does anything."""
    client, wrong = served.test_client(), {}
    for path in {things.path(stop.rule) for stop in stops}:
        known = {stop.method for stop in stops if things.path(stop.rule) == path} | {"OPTIONS"}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - known:
            response = client.open(path, method=method, headers=things.owner.headers)
            if response.status_code != 405 or set(response.allow) != known:
                wrong[f"{method} {path}"] = response.status_code
    assert wrong == {}
