"""CORS: allowed origins can call and read responses, other origins cannot."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api import cors
from app.config import Settings, load_settings
from app.errors import SettingsError
from app.extensions import db
from app.factory import create_app
from tests.api.responses import assert_problem
from tests.factories import LoggedInUser

MINE = "https://chat.example.org"
LOCAL = "http://localhost:5173"
FOREIGN = (
    "https://evil.example.org",
    "https://chat.example.org.evil.net",
    "https://evil-chat.example.org",
    "http://chat.example.org",
    "https://chat.example.org:8443",
    "https://chat.example.org/",
    "https://CHAT.example.org",
    "https://chatxexample.org",
    f"{MINE},{LOCAL}",
    f"{MINE} {LOCAL}",
    "null",
    "*",
    "",
)


@pytest.fixture(scope="module")
def client_for(settings: Settings, flask_app: Flask) -> Iterator[Callable[..., FlaskClient]]:
    """Yield a function that returns a client of an application with these origins."""
    made: dict[tuple[str, ...], Flask] = {}

    def client(*origins: str) -> FlaskClient:
        if origins not in made:
            server = settings.server.model_copy(update={"cors_origins": origins})
            made[origins] = create_app(replace(settings, server=server))
        return made[origins].test_client()

    yield client
    for application in made.values():
        with application.app_context():
            db.engine.dispose()


@pytest.fixture
def listed(client_for: Callable[..., FlaskClient]) -> FlaskClient:
    return client_for(MINE, LOCAL)


def preflight(client: FlaskClient, origin: str, path: str = "/api/chat", method: str = "POST") -> TestResponse:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    return client.options(path, headers=headers)


def cors_headers(response: TestResponse) -> dict[str, str]:
    """Return the CORS headers of the response."""
    return {name: value for name, value in response.headers if name.startswith("Access-Control-")}


@pytest.mark.parametrize("origin", [MINE, LOCAL])
@pytest.mark.parametrize("path", ["/api/chat", "/api/conversations", "/api/auth/login", "/nowhere"])
def test_preflight_of_allowed_origin_is_204(listed: FlaskClient, origin: str, path: str) -> None:
    answer = preflight(listed, origin, path)
    assert (answer.status_code, answer.data) == (204, b"")
    assert cors_headers(answer)["Access-Control-Allow-Origin"] == origin
    assert set(answer.headers["Access-Control-Allow-Methods"].split(", ")) == set(cors.METHODS)
    standard = {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"}
    tracing = {"traceparent", "tracestate", "baggage"}
    mcp = {"MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"}
    assert standard | tracing | mcp == set(answer.headers["Access-Control-Allow-Headers"].split(", "))
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_preflight_of_other_origin_is_403(listed: FlaskClient, origin: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        answer = preflight(listed, origin)
    assert f"CORS_ORIGINS does not contain the origin {origin}" in caplog.text
    assert "CORS_ORIGINS" in assert_problem(answer, 403, "not_allowed")["detail"]
    assert cors_headers(answer) == {}
    assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", [MINE, LOCAL])
def test_allowed_origin_reads_response_and_headers(listed: FlaskClient, user: LoggedInUser, origin: str) -> None:
    made = listed.post("/api/projects", json={"name": "x"}, headers={**user.headers, "Origin": origin})
    assert made.status_code == 201
    assert cors_headers(made)["Access-Control-Allow-Origin"] == origin
    exposed = set(made.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"Location", "Retry-After", "X-Request-ID", "X-RateLimit-Remaining"} <= exposed
    assert "Access-Control-Allow-Credentials" not in made.headers
    for refused in (
        listed.get("/api/projects", headers={"Origin": origin}),
        listed.get("/nowhere", headers={"Origin": origin}),
        listed.put("/api/projects", headers={"Origin": origin}),
        listed.post("/api/projects", json={"what": 1}, headers={**user.headers, "Origin": origin}),
    ):
        assert refused.status_code in (400, 401, 404, 405)  # the page must be able to read the error
        assert cors_headers(refused)["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("origin", FOREIGN)
def test_other_origin_gets_response_without_cors_headers(listed: FlaskClient, user: LoggedInUser, origin: str) -> None:
    answer = listed.get("/api/projects", headers={**user.headers, "Origin": origin})
    assert answer.status_code == 200
    assert cors_headers(answer) == {}
    assert "Origin" in answer.headers["Vary"]


def test_response_without_origin_has_vary(listed: FlaskClient, user: LoggedInUser) -> None:
    assert "Origin" in listed.get("/api/projects", headers=user.headers).headers["Vary"]


def test_no_origin_is_allowed_by_default(client: FlaskClient, user: LoggedInUser) -> None:
    for origin in (MINE, *FOREIGN):
        assert cors_headers(preflight(client, origin)) == {}
        answer = client.get("/api/projects", headers={**user.headers, "Origin": origin})
        assert (answer.status_code, cors_headers(answer)) == (200, {})
        assert "Vary" not in answer.headers


def test_wildcard_allows_every_origin(client_for: Callable[..., FlaskClient], user: LoggedInUser) -> None:
    client = client_for("*")
    for origin in (MINE, "null", "https://other.example"):
        assert cors_headers(preflight(client, origin))["Access-Control-Allow-Origin"] == "*"
        answer = client.get("/api/projects", headers={**user.headers, "Origin": origin})
        assert cors_headers(answer)["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Vary" not in answer.headers
    assert cors_headers(client.get("/api/projects", headers=user.headers)) == {}


@pytest.mark.parametrize("origin", [MINE, FOREIGN[0]])
def test_options_without_preflight_is_handled_by_flask(listed: FlaskClient, origin: str) -> None:
    answer = listed.options("/api/projects", headers={"Origin": origin})
    assert answer.status_code == 200
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
    assert listed.options("/api/projects", headers={"Access-Control-Request-Method": "GET"}).status_code == 200


def test_allowed_origin_reads_stream(make_chat_app: Callable[..., Flask], user: LoggedInUser) -> None:
    client = make_chat_app(server={"cors_origins": (MINE,)}).test_client()
    headers = {**user.headers, "Origin": MINE, "Accept": "text/event-stream", "Accept-Encoding": "gzip"}
    stream = client.post("/api/chat", json={"message": "hello"}, headers=headers)
    assert stream.mimetype == "text/event-stream"
    assert cors_headers(stream)["Access-Control-Allow-Origin"] == MINE
    assert "Content-Encoding" not in stream.headers
    assert b"turn.completed" in stream.data


def test_setting_allows_further_request_headers(make_chat_app: Callable[..., Flask]) -> None:
    client = make_chat_app(server={"cors_origins": (MINE,), "cors_headers": ("X-Tenant", "sentry-trace")}).test_client()
    allowed = preflight(client, MINE).headers["Access-Control-Allow-Headers"].split(", ")
    assert allowed == [*cors.REQUEST_HEADERS, "X-Tenant", "sentry-trace"]


@pytest.mark.parametrize(
    ("value", "names"),
    [("", ()), ("X-Tenant", ("X-Tenant",)), ("X-Tenant, sentry-trace", ("X-Tenant", "sentry-trace"))],
)
def test_setting_of_headers_is_a_list(monkeypatch: pytest.MonkeyPatch, value: str, names: tuple[str, ...]) -> None:
    monkeypatch.setenv("CORS_HEADERS", value)
    assert load_settings(env_file=None).server.cors_headers == names


@pytest.mark.parametrize("value", ["*", "X Tenant", "X-Tenant:", "X-Tenant,,", "Größe"])
def test_invalid_header_name_is_a_settings_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CORS_HEADERS", value)
    with pytest.raises(SettingsError, match="CORS_HEADERS"):
        load_settings(env_file=None)


def test_all_methods_of_routes_are_allowed(flask_app: Flask) -> None:
    methods: set[Any] = set().union(*(rule.methods or () for rule in flask_app.url_map.iter_rules()))
    assert methods - {"OPTIONS"} <= set(cors.METHODS)
