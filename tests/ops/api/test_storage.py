"""The admin requests of the bytes that a user stores."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.ids import new_id
from tests.factories import LoggedInUser


@pytest.fixture
def writer(client: FlaskClient, user: LoggedInUser) -> LoggedInUser:
    """Return a user who stores a prompt of 1,000 bytes."""
    project = client.post("/api/projects", json={"name": "P"}, headers=user.headers).get_json()["id"]
    body = {"title": "T", "content": "x" * 1000}
    assert client.post(f"/api/projects/{project}/prompts", json=body, headers=user.headers).status_code == 201
    return user


def path(user: LoggedInUser) -> str:
    return f"/api/admin/users/{user.id}/storage"


def audited(client: FlaskClient, operator: LoggedInUser, user: LoggedInUser) -> list[tuple[str, Any]]:
    query = {"action": "user.storage", "target": str(user.id)}
    items = client.get("/api/admin/audit", query_string=query, headers=operator.headers).get_json()["items"]
    return [(item["result"], item["details"].get("max_bytes")) for item in items]


def test_operator_reads_sets_and_resets_the_limit(
    served: Flask, client: FlaskClient, operator: LoggedInUser, writer: LoggedInUser
) -> None:
    before = client.get(path(writer), headers=operator.headers).get_json()
    assert before["used_bytes"] >= 1000
    limited = client.put(path(writer), json={"max_bytes": 1500}, headers=operator.headers)
    assert limited.status_code == 200
    assert limited.get_json() == {**before, "max_bytes": 1500, "own_limit": 1500}
    assert client.get(path(writer), headers=operator.headers).get_json() == limited.get_json()
    reset = client.put(path(writer), json={"max_bytes": None}, headers=operator.headers)
    assert reset.get_json() == before
    assert audited(client, operator, writer) == [("done", None), ("done", 1500)]


def test_limit_takes_effect_and_zero_is_none(client: FlaskClient, operator: LoggedInUser, writer: LoggedInUser) -> None:
    def create_project() -> int:
        return client.post("/api/projects", json={"name": "another"}, headers=writer.headers).status_code

    assert client.put(path(writer), json={"max_bytes": 500}, headers=operator.headers).status_code == 200
    assert create_project() == 429
    assert client.put(path(writer), json={"max_bytes": 0}, headers=operator.headers).status_code == 200
    assert create_project() == 201


@pytest.mark.parametrize("max_bytes", [-1, 1.5, "many", True, 2**63, [], {}])
def test_invalid_limit_is_refused(
    client: FlaskClient, operator: LoggedInUser, writer: LoggedInUser, max_bytes: Any
) -> None:
    before = client.get(path(writer), headers=operator.headers).get_json()
    answer = client.put(path(writer), json={"max_bytes": max_bytes}, headers=operator.headers)
    assert answer.status_code == 400, answer.get_json()
    assert client.get(path(writer), headers=operator.headers).get_json() == before


def test_others_are_refused(
    client: FlaskClient, operator: LoggedInUser, admin: LoggedInUser, writer: LoggedInUser
) -> None:
    body = {"max_bytes": 5}
    assert client.get(path(writer), headers=writer.headers).status_code == 403
    assert client.put(path(writer), json=body, headers=writer.headers).status_code == 403
    assert client.put(path(admin), json=body, headers=operator.headers).status_code == 403
    assert client.put(path(admin), json=body, headers=admin.headers).status_code in (200, 403)
    unknown = f"/api/admin/users/{new_id()}/storage"
    assert client.get(unknown, headers=operator.headers).status_code == 404
    assert client.put(unknown, json=body, headers=operator.headers).status_code == 404
