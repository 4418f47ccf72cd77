"""Security headers of responses of every kind."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.api import security
from app.api.access import Access
from app.api.blueprint import Blueprint
from app.config import Settings
from app.factory import create_app
from tests.api.keys import make_key
from tests.factories import LoggedInUser

EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

ANSWERS: dict[str, Callable[[FlaskClient, dict[str, str]], TestResponse]] = {
    "200": lambda client, headers: client.get("/api/projects", headers=headers),
    "201": lambda client, headers: client.post("/api/projects", json={"name": "x"}, headers=headers),
    "204": lambda client, headers: client.post("/api/auth/logout", headers=headers),
    "400": lambda client, headers: client.post("/api/projects", json={"what": 1}, headers=headers),
    "401": lambda client, headers: client.get("/api/projects"),
    "403": lambda client, headers: client.options(
        "/api/projects", headers={"Origin": "https://x.example", "Access-Control-Request-Method": "GET"}
    ),
    "404": lambda client, headers: client.get("/nowhere", headers=headers),
    "405": lambda client, headers: client.put("/api/projects", headers=headers),
    "413": lambda client, headers: client.post("/api/projects", data=b"x" * 1_048_577, headers=headers),
    "200 to HEAD": lambda client, headers: client.head("/api/projects", headers=headers),
    "200 to OPTIONS": lambda client, headers: client.options("/api/projects"),
    "200 to a login that is none": lambda client, headers: client.get("/health"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_response_has_security_headers(client: FlaskClient, user: LoggedInUser, answer: str) -> None:
    response = ANSWERS[answer](client, user.headers)
    assert response.status_code == int(answer.split()[0])
    assert {name: response.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert "Strict-Transport-Security" not in response.headers
    assert "Server" not in response.headers
    assert "X-Powered-By" not in response.headers


@pytest.mark.parametrize("answer", ["204", "200 to OPTIONS"])
def test_empty_response_has_no_content_type(client: FlaskClient, user: LoggedInUser, answer: str) -> None:
    response = ANSWERS[answer](client, user.headers)
    assert response.data == b""
    assert "Content-Type" not in response.headers


def test_preflight_has_no_content_type(settings: Settings) -> None:
    served = replace(settings, server=settings.server.model_copy(update={"cors_origins": ("https://x.example",)}))
    headers = {"Origin": "https://x.example", "Access-Control-Request-Method": "GET"}
    response = create_app(served).test_client().options("/api/projects", headers=headers)
    assert (response.status_code, response.headers.get("Content-Type")) == (204, None)


@pytest.mark.parametrize("answer", ["200", "201", "400", "200 to HEAD"])
def test_response_with_body_has_content_type(client: FlaskClient, user: LoggedInUser, answer: str) -> None:
    assert ANSWERS[answer](client, user.headers).content_type in ("application/json", "application/problem+json")


def test_unexpected_error_and_stream_have_security_headers(
    make_chat_app: Callable[..., Flask], user: LoggedInUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_chat_app().test_client()
    stream = client.post("/api/chat", json={"message": "hello", "stream": True}, headers=user.headers)
    assert {name: stream.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
    assert b"turn.completed" in stream.data
    monkeypatch.setattr("app.services.projects.page", lambda *_, **__: 1 / 0)
    broken = client.get("/api/projects", headers=user.headers)
    assert broken.status_code == 500
    assert {name: broken.headers.get(name) for name in EVERYWHERE} == EVERYWHERE


def test_hsts_only_over_https(client: FlaskClient, user: LoggedInUser) -> None:
    secure = client.get("/api/projects", headers=user.headers, base_url="https://parley.example")
    assert secure.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_view_can_override_policy_and_caching(settings: Settings, flask_app: Flask) -> None:
    blueprint = Blueprint("page", __name__, access=Access.PUBLIC)

    def page() -> Response:
        kept = {"Content-Security-Policy": security.PAGE_POLICY, "Cache-Control": "max-age=3600"}
        return Response("<p>hello", headers=kept)

    blueprint.add_url_rule("/page", "page", page)
    answer = create_app(settings, [blueprint]).test_client().get("/page")
    assert answer.headers.getlist("Content-Security-Policy") == [security.PAGE_POLICY]
    assert answer.headers.getlist("Cache-Control") == ["max-age=3600"]
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_response_with_key_is_not_cached(client: FlaskClient, flask_app: Flask, user: LoggedInUser) -> None:
    make_key(flask_app, user)
    made = client.post("/api/auth/keys", json={"name": "x", "scopes": ["read"]}, headers=user.headers)
    listed = client.get("/api/auth/keys", headers=user.headers)
    assert made.headers["Cache-Control"] == listed.headers["Cache-Control"] == "no-store"
