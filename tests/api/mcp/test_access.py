"""Callers of `/mcp`: authentication of every request, scopes, limits, origins and metadata."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings, load_settings
from app.errors import SettingsError
from app.factory import create_app
from tests.api.keys import change_key, make_key
from tests.api.mcp.messages import McpCaller, error_of
from tests.api.responses import bearer
from tests.factories import LoggedInUser

INVALID_REQUEST = -32600
PAGE = "https://chat.example.org"
METADATA = "/.well-known/oauth-protected-resource/mcp"


@pytest.fixture
def make_app(settings: Settings, flask_app: Flask) -> Callable[..., Flask]:
    """Return a function that creates an application; its keyword arguments are groups with values to change."""

    def make(**groups: dict[str, Any]) -> Flask:
        changed = {name: getattr(settings, name).model_copy(update=values) for name, values in groups.items()}
        return create_app(replace(settings, **changed))

    return make


@pytest.mark.parametrize("method", ["initialize", "ping", "server/discover", "tools/list", "tools/call", "no/such"])
def test_every_method_without_token_is_401_with_challenge(client: FlaskClient, either: McpCaller, method: str) -> None:
    response = replace(either, headers={}).send(method, {"name": "add_task", "arguments": {"title": "x"}})
    assert error_of(response)[:2] == (401, INVALID_REQUEST)
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.json["error"]["data"]["code"] == "not_authenticated"


def test_notification_and_invalid_body_without_token_are_401(client: FlaskClient) -> None:
    for body in (b"{", b"[]", b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'):
        assert client.post("/mcp", data=body, content_type="application/json").status_code == 401


def test_key_that_ends_between_two_requests_is_refused(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, engine: Engine
) -> None:
    key = make_key(flask_app, user, ["read"])
    caller = McpCaller(client, key.headers)
    assert caller.send("tools/list").status_code == 200
    change_key(engine, key, "revoked_at = now()")
    status, _, message = error_of(caller.send("tools/list"))
    assert (status, "revoked" in message) == (401, True)


def test_ended_session_is_refused(caller: McpCaller, user: LoggedInUser, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE sessions SET revoked_at = now() WHERE user_id = :u"), {"u": user.id})
    assert caller.send("tools/list").status_code == 401


def test_key_without_read_scope_is_403_and_names_it(flask_app: Flask, client: FlaskClient, user: LoggedInUser) -> None:
    caller = McpCaller(client, make_key(flask_app, user, ["chat", "write", "admin"]).headers)
    status, code, message = error_of(caller.send("tools/list"))
    assert (status, code, "`read`" in message) == (403, INVALID_REQUEST, True)


def test_refusal_is_logged_with_reason_and_without_credential(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(flask_app, user, ["read"])
    with caplog.at_level(logging.INFO, "parley.mcp"):
        McpCaller(client, bearer(key.secret + "x")).send("tools/list")
        McpCaller(client, key.headers).send("no/such")
        McpCaller(client, key.headers).post([])
        McpCaller(client, key.headers, added={"Origin": PAGE}).send("tools/list")
    refusals = [record.getMessage() for record in caplog.records if record.name == "parley.mcp"]
    assert [
        word in line for word, line in zip(("API key", "`no/such`", "Batches", "origin"), refusals, strict=True)
    ] == [True] * 4
    assert key.secret not in caplog.text


@pytest.mark.parametrize(
    "origin", [PAGE, "null", "http://localhost.example.org", "http://127.0.0.1.example.org", "x", ""]
)
def test_foreign_origin_is_403_with_and_without_token(caller: McpCaller, origin: str) -> None:
    for headers in (caller.headers, {}):
        response = replace(caller, headers=headers, added={"Origin": origin}).send("tools/list")
        status, code, message = error_of(response)
        assert (status, code) == (403, INVALID_REQUEST)
        assert "CORS_ORIGINS" in message
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"])
def test_local_origin_is_allowed_on_loopback_only(
    caller: McpCaller, make_app: Callable[..., Flask], origin: str
) -> None:
    assert replace(caller, added={"Origin": origin}).send("tools/list").status_code == 200
    public = make_app(server={"host": "0.0.0.0"})
    assert replace(caller, client=public.test_client(), added={"Origin": origin}).send("tools/list").status_code == 403


def test_configured_origin_may_call_and_preflight(caller: McpCaller, make_app: Callable[..., Flask]) -> None:
    client = make_app(server={"cors_origins": (PAGE,), "host": "0.0.0.0"}).test_client()
    response = replace(caller, client=client, added={"Origin": PAGE}).send("tools/list")
    assert (response.status_code, response.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    preflight = client.options(
        "/mcp",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,mcp-method,mcp-name,mcp-protocol-version",
        },
    )
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"mcp-method", "mcp-name", "mcp-protocol-version"} <= set(allowed)


def test_every_request_counts_for_the_limit(
    make_app: Callable[..., Flask], user: LoggedInUser, flask_app: Flask
) -> None:
    client = make_app(limits={"user_per_minute": 3}).test_client()
    caller = McpCaller(client, user.headers)
    statuses = [
        caller.send("tools/list").status_code,
        caller.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code,
        caller.post([]).status_code,
        caller.send("tools/list").status_code,
    ]
    assert statuses == [200, 202, 400, 429]
    response = caller.send("tools/list")
    assert error_of(response)[:2] == (429, INVALID_REQUEST)
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["X-RateLimit-Remaining"] == "0"


def test_metadata_is_404_without_authorization_server(client: FlaskClient) -> None:
    response = client.get(METADATA)
    assert (response.status_code, response.json["code"]) == (404, "not_found")


def test_metadata_and_challenge_name_authorization_server(
    make_app: Callable[..., Flask], flask_app: Flask, user: LoggedInUser
) -> None:
    servers, url = ("https://login.example.org", "https://second.example.org/realm"), f"{PAGE}/parley/mcp"
    client = make_app(auth={"mcp_authorization_servers": servers, "mcp_url": url}).test_client()
    assert client.get(METADATA).json == {
        "resource": url,
        "authorization_servers": list(servers),
        "scopes_supported": ["read", "write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Parley",
    }
    challenge = McpCaller(client, {}).send("tools/list").headers["WWW-Authenticate"]
    metadata = f'resource_metadata="{PAGE}/.well-known/oauth-protected-resource/parley/mcp", scope="read write"'
    assert challenge == f"Bearer {metadata}"
    key = make_key(flask_app, user, ["write"])
    refused = McpCaller(client, key.headers).send("tools/list")
    assert refused.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", {metadata}'
    foreign = McpCaller(client, key.headers, added={"Origin": "https://elsewhere.example.org"}).send("tools/list")
    assert "WWW-Authenticate" not in foreign.headers


def test_authorization_server_without_url_is_refused_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_AUTHORIZATION_SERVERS", "https://login.example.org, https://second.example.org/realm")
    with pytest.raises(SettingsError, match="MCP_URL: required"):
        load_settings(env_file=None)
    monkeypatch.setenv("MCP_URL", f"{PAGE}/mcp")
    assert len(load_settings(env_file=None).auth.mcp_authorization_servers) == 2


@pytest.mark.parametrize(
    "url",
    [
        "login.example.org",
        "ftp://login.example.org",
        "https://user:password@x.example.org",
        'https://x.org/"',
        "https://x.org/?q=1",
    ],
)
def test_url_that_is_none_is_refused_at_start_without_its_value(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("MCP_URL", url)
    with pytest.raises(SettingsError, match="MCP_URL: must look like") as refused:
        load_settings(env_file=None)
    assert url not in str(refused.value)
