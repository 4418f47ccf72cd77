"""Refused requests to the admin API: who may not change admins, and what the audit records of a refusal."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine

from app.config import Settings
from app.ids import new_id
from ops.api.refusals import refusal_counter
from ops.runs.actors import Actor
from ops.runs.refusals import ACTION, MAX_CALLERS, OTHERS, RefusalCounter, current_minute
from tests.api.keys import make_key
from tests.factories import LoggedInUser
from tests.ops.installation import run_sql


@pytest.fixture
def events(client: FlaskClient, admin: LoggedInUser) -> Callable[[str], list[dict[str, Any]]]:
    """Return a function that lists the refusals of one actor, newest first."""

    def read(actor: str) -> list[dict[str, Any]]:
        query = {"action": ACTION, "limit": 100}
        items = client.get("/api/admin/audit", query_string=query, headers=admin.headers).get_json()["items"]
        return [item for item in items if item["actor"] == actor]

    return read


@pytest.fixture
def fixed_minute(served: Flask) -> Iterator[list[int]]:
    """Let the counter's clock stand, so that no minute ends within a test; the test may change its only element."""
    minute = [current_minute()]
    with served.app_context():
        counter = refusal_counter()
    counter._clock = lambda: minute[0]
    yield minute
    counter._clock = current_minute


def test_operator_cannot_change_anything_of_an_admin(
    served: Flask,
    client: FlaskClient,
    operator: LoggedInUser,
    admin: LoggedInUser,
    make_user: Callable[..., LoggedInUser],
) -> None:
    other_admin = make_user(role="admin")
    chat = client.post("/api/chat", json={"message": "hello"}, headers=admin.headers).get_json()
    conversation = chat["conversation"]["id"]
    key = make_key(served, admin).id
    hold = {"reason": "case 17/2026", "conversation_id": conversation}
    users, archive = f"/api/admin/users/{admin.id}", "/api/admin/archive"
    for method, path, body in (
        ("POST", f"{users}/disable", None),
        ("POST", f"{users}/enable", None),
        ("POST", f"{users}/logout", None),
        ("PUT", f"{users}/quota", {"tokens_per_day": 1}),
        ("PUT", f"{users}/role", {"role": "user"}),
        ("POST", f"{users}/erase", {"reason": "asked for it"}),
        ("DELETE", f"{users}/keys/{key}", None),
        ("POST", f"{archive}/users/{admin.id}/restore", None),
        ("POST", f"{archive}/conversations/{conversation}/restore", None),
        ("POST", f"{archive}/holds", hold),
        ("POST", f"{archive}/holds", {"reason": "case 17/2026", "user_id": str(admin.id)}),
    ):
        response = client.open(path, method=method, json=body, headers=operator.headers)
        assert response.status_code == 403, (method, path, response.text)
    held = client.post(f"{archive}/holds", json=hold, headers=other_admin.headers)
    assert held.status_code == 201
    lifted = f"{archive}/holds/{held.get_json()['holds'][0]}"
    assert client.delete(lifted, headers=operator.headers).status_code == 403
    assert client.delete(lifted, headers=other_admin.headers).status_code == 200
    quota = client.get(f"{users}/quota", headers=admin.headers).get_json()
    assert quota["tokens_per_day"] is None
    assert client.get(f"{users}/keys", headers=operator.headers).get_json()["items"][0]["revoked_at"] is None


def test_every_change_of_a_user_in_a_path_protects_admins(
    served: Flask, client: FlaskClient, operator: LoggedInUser, admin: LoggedInUser
) -> None:
    """Include routes that are added later. No request of an operator succeeds."""
    paths = [
        (method, rule.rule.replace("<uuid:user_id>", str(admin.id)).replace("<uuid:key_id>", str(new_id())))
        for rule in served.url_map.iter_rules()
        if rule.rule.startswith("/api/admin/") and "<uuid:user_id>" in rule.rule
        for method in sorted((rule.methods or set()) - {"GET", "HEAD", "OPTIONS"})
    ]
    assert len(paths) >= 9
    for method, path in paths:
        if "<" in path:
            continue  # of an object within the user's data, for admins only
        for body in (None, {"tokens_per_day": 1}, {"reason": "a long enough reason"}, {"role": "user"}):
            response = client.open(path, method=method, json=body, headers=operator.headers)
            assert response.status_code in (400, 403, 415), (method, path, response.text)


def test_operator_still_changes_users(
    served: Flask, client: FlaskClient, operator: LoggedInUser, user: LoggedInUser
) -> None:
    path = f"/api/admin/users/{user.id}"
    assert client.put(f"{path}/quota", json={"tokens_per_day": 5}, headers=operator.headers).status_code == 200
    key = make_key(served, user).id
    assert client.delete(f"{path}/keys/{key}", headers=operator.headers).status_code == 200


def test_refusals_of_a_minute_are_one_event(
    client: FlaskClient, user: LoggedInUser, events: Callable[[str], list[dict[str, Any]]], fixed_minute: list[int]
) -> None:
    for _ in range(7):
        assert client.get("/api/admin/jobs", headers=user.headers).status_code == 403
    [event] = events(str(user.id))
    assert (event["actor_kind"], event["result"], event["address"]) == ("user", "refused", "127.0.0.1")
    assert event["details"] == {"requests": 7, "routes": ["403 GET /api/admin/jobs"]}
    assert client.post(f"/api/admin/users/{user.id}/disable", headers=user.headers).status_code == 403
    [event] = events(str(user.id))
    assert event["details"] == {
        "requests": 8,
        "routes": ["403 GET /api/admin/jobs", "403 POST /api/admin/users/<uuid:user_id>/disable"],
    }


def test_refusals_of_another_minute_are_another_event(
    client: FlaskClient,
    user: LoggedInUser,
    events: Callable[[str], list[dict[str, Any]]],
    fixed_minute: list[int],
) -> None:
    for _ in range(2):
        fixed_minute[0] -= 1
        client.get("/api/admin/jobs", headers=user.headers)
    assert [event["details"]["requests"] for event in events(str(user.id))] == [1, 1]


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8:1:2:3:4:5:6"])
def test_refusal_without_credential_is_counted_by_network(
    client: FlaskClient, events: Callable[[str], list[dict[str, Any]]], fixed_minute: list[int], address: str
) -> None:
    headers = {"Authorization": "Bearer nonsense"}
    refused = client.get("/api/admin/users", headers=headers, environ_base={"REMOTE_ADDR": address})
    assert refused.status_code == 401
    [event] = events("203.0.113.9" if "." in address else "2001:db8:1:2::/64")[:1]
    assert (event["actor_kind"], event["address"]) == ("anonymous", address)
    assert event["details"]["routes"] == ["401 GET /api/admin/users"]


def test_false_api_key_does_not_blame_the_user_it_names(
    served: Flask,
    client: FlaskClient,
    operator: LoggedInUser,
    events: Callable[[str], list[dict[str, Any]]],
    fixed_minute: list[int],
) -> None:
    true_key = make_key(served, operator, ["read"]).secret
    headers = {"Authorization": f"Bearer {true_key[:-6]}AAAAAA"}
    assert client.get("/api/admin/jobs", headers=headers).status_code == 401
    assert events(str(operator.id)) == []
    assert events("127.0.0.1")
    headers = {"Authorization": f"Bearer {true_key}"}  # a valid key without the scope admin
    assert client.get("/api/admin/jobs", headers=headers).status_code == 403
    assert len(events(str(operator.id))) == 1


def test_what_a_view_refuses_is_recorded_once(
    client: FlaskClient,
    operator: LoggedInUser,
    admin: LoggedInUser,
    events: Callable[[str], list[dict[str, Any]]],
    fixed_minute: list[int],
) -> None:
    assert client.post(f"/api/admin/users/{admin.id}/disable", headers=operator.headers).status_code == 403
    assert events(str(operator.id)) == []
    query = {"target": str(admin.id)}
    [event] = client.get("/api/admin/audit", query_string=query, headers=admin.headers).get_json()["items"]
    assert (event["action"], event["result"]) == ("user.disable", "refused")


def test_number_of_events_per_minute_is_bounded(
    served: Flask, events: Callable[[str], list[dict[str, Any]]], fixed_minute: list[int]
) -> None:
    fixed_minute[0] -= 1  # an empty minute
    name = f"caller-{new_id()}"
    with served.app_context():
        counter = refusal_counter()
        for number in range(300):
            counter.note(Actor(kind="anonymous", name=f"{name}-{number}"), "401 GET /x")
        counter.flush()
    assert events(f"{name}-0")
    assert events(f"{name}-{MAX_CALLERS}") == []
    assert events(OTHERS)[0]["details"]["requests"] == 300 - MAX_CALLERS


def test_refusals_wait_while_the_database_is_away(served: Flask, settings: Settings) -> None:
    name = f"caller-{new_id()}"
    away = create_engine("postgresql+psycopg2://user@127.0.0.1:1/none", connect_args={"connect_timeout": 1})
    counter = RefusalCounter(away)
    counter.note(Actor(kind="anonymous", name=name), "401 GET /x")
    counter.flush()
    with served.app_context():
        counter._engine = refusal_counter()._engine
        counter.note(Actor(kind="anonymous", name=name), "401 GET /y")
        counter.flush()
    sql = f"SELECT details FROM audit_events WHERE actor = '{name}'"
    assert run_sql(str(settings.database.url), sql) == [({"requests": 2, "routes": ["401 GET /x", "401 GET /y"]},)]
