"""The admin API of MCP servers."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.api.responses import assert_problem
from tests.factories import LoggedInUser
from tests.fakes.upstream import Upstream
from tests.ops.api.conftest import operator  # noqa: F401  # fixture
from tests.ops.mcp.conftest import SECRET, mcp_url

URL = "/api/admin/mcp"


@pytest.fixture
def client(served: Flask) -> FlaskClient:
    return served.test_client()


def test_server_is_added_tested_allowed_and_removed(
    client: FlaskClient,
    operator: LoggedInUser,  # noqa: F811
    name: str,
    upstream: Upstream,
) -> None:
    headers = operator.headers
    body = {"name": name, "url": mcp_url(upstream), "headers": {"X-Key": SECRET}, "call_seconds": 20}
    added = client.post(URL, json=body, headers=headers)
    assert added.status_code == 201
    assert (added.json["headers"], added.json["tools"], added.json["call_seconds"]) == (["X-Key"], [], 20)
    assert upstream.requests == []
    tested = client.post(f"{URL}/{name}/test", headers=headers)
    assert tested.json["ok"] is True
    allowed = client.post(f"{URL}/{name}/allow", json={"tools": ["forecast"], "needs_approval": True}, headers=headers)
    assert {tool["tool"]: (tool["state"], tool["needs_approval"]) for tool in allowed.json["tools"]} == {
        "forecast": ("allowed", True),
        "delete_all": ("not allowed", False),
    }
    assert client.post(f"{URL}/{name}/disable", headers=headers).json["enabled"] is False
    assert client.post(f"{URL}/{name}/enable", headers=headers).json["enabled"] is True
    withdrawn = client.post(f"{URL}/{name}/disallow", json={"tools": ["forecast"]}, headers=headers)
    assert {tool["state"] for tool in withdrawn.json["tools"]} == {"not allowed"}
    assert name in client.post(f"{URL}/secrets/rotate", headers=headers).json["rotated"]
    listed = client.get(URL, headers=headers)
    assert name in [server["name"] for server in listed.json["servers"]]
    responses = (added, tested, allowed, withdrawn, listed)
    assert SECRET not in "".join(response.text for response in responses)
    assert client.delete(f"{URL}/{name}", headers=headers).json == {"name": name}
    assert_problem(client.delete(f"{URL}/{name}", headers=headers), 404, "not_found")


def test_invalid_bodies_are_refused_without_secret(
    client: FlaskClient,
    operator: LoggedInUser,  # noqa: F811
    name: str,
    upstream: Upstream,
) -> None:
    valid = {"name": name, "url": mcp_url(upstream)}
    for change in (
        {"url": "http://10.0.0.1/mcp"},
        {"url": "https://user@a.example/"},
        {"headers": {"Host": SECRET}},
        {"headers": {"X-Key": f"{SECRET}\r\nX: y"}},
        {"headers": {"X-Key": SECRET * 200}},
        {"headers": {"X-Key": SECRET, "x-key": SECRET}},
        {"headers": SECRET},
        {"total_seconds": 0},
        {"name": "UPPER"},
    ):
        response = client.post(URL, json={**valid, **change}, headers=operator.headers)
        assert response.status_code in (400, 422), (change, response.text)
        assert SECRET not in response.text
    assert client.post(URL, json=valid, headers=operator.headers).status_code == 201
    assert_problem(client.post(URL, json=valid, headers=operator.headers), 409, "conflict")
    assert client.post(f"{URL}/{name}/allow", json={"tools": ["gone"]}, headers=operator.headers).status_code == 404


def test_user_is_refused(client: FlaskClient, user: LoggedInUser, name: str) -> None:
    assert client.get(URL, headers=user.headers).status_code == 403
    assert client.post(f"{URL}/{name}/test", headers=user.headers).status_code == 403
