"""The address and scheme of a request proxied trusted proxies."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from tests.factories import PASSWORD, LoggedInUser

# Forged by a caller at 203.0.113.9, then appended by the outer proxy, then by the inner proxy.
CHAIN = "10.9.9.9, 203.0.113.9, 198.51.100.7"


@pytest.fixture(scope="module")
def proxied(settings: Settings, flask_app: Flask) -> Iterator[Callable[[int], FlaskClient]]:
    """Yield a function that returns a client of an application proxied `proxies` proxies."""
    made: dict[int, Flask] = {}

    def client(proxies: int) -> FlaskClient:
        if proxies not in made:
            server = settings.server.model_copy(update={"trusted_proxies": proxies})
            made[proxies] = create_app(replace(settings, server=server))
        return made[proxies].test_client()

    yield client
    for application in made.values():
        with application.app_context():
            db.engine.dispose()


def login_address(client: FlaskClient, engine: Engine, user: LoggedInUser, headers: dict[str, str]) -> Any:
    """Log in with these headers and return the address stored in the session."""
    body = {"email": user.email, "password": PASSWORD}
    assert client.post("/api/auth/login", json=body, headers=headers).status_code == 200
    with engine.connect() as connection:
        return connection.execute(
            text("SELECT address FROM sessions WHERE user_id = :u ORDER BY id DESC LIMIT 1"), {"u": user.id}
        ).scalar_one()


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, CHAIN, "127.0.0.1"),
        (1, CHAIN, "198.51.100.7"),
        (2, CHAIN, "203.0.113.9"),
        (4, CHAIN, "127.0.0.1"),  # fewer entries than proxies: the header is ignored
        (1, "", "127.0.0.1"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "x" * 200, "x" * 45),  # the value of a proxy is not validated, only cut
    ],
)
def test_session_stores_address_seen_by_trusted_proxies(
    proxied: Callable[[int], FlaskClient],
    engine: Engine,
    user: LoggedInUser,
    proxies: int,
    forwarded: str,
    address: str,
) -> None:
    assert login_address(proxied(proxies), engine, user, {"X-Forwarded-For": forwarded}) == address


@pytest.mark.parametrize(("proxies", "believed"), [(0, False), (1, True), (2, True)])
def test_scheme_is_taken_from_trusted_proxy_only(
    proxied: Callable[[int], FlaskClient], proxies: int, believed: bool
) -> None:
    answer = proxied(proxies).get("/health", headers={"X-Forwarded-Proto": "https"})
    assert ("Strict-Transport-Security" in answer.headers) is believed
    assert "Strict-Transport-Security" not in proxied(proxies).get("/health").headers


@pytest.mark.parametrize(
    ("proxies", "sent", "prefix"),
    [
        (0, "/parley", ""),
        (1, "/parley", "/parley"),
        (1, "/parley/", "/parley"),
        (1, "/chat/v2", "/chat/v2"),
        (1, "/forged, /parley", "/parley"),
        (2, "/parley", "/parley"),
        (1, "", ""),
        (1, "/", ""),
        (1, "//evil.example", ""),
        (1, "/a//evil.example", ""),
        (1, "https://evil.example", ""),
        (1, "parley", ""),
        (1, "/a?b", ""),
        (1, "/a\\b", ""),
        (1, "/parley, //evil.example", ""),
    ],
)
def test_location_has_prefix_of_trusted_proxy(
    proxied: Callable[[int], FlaskClient], user: LoggedInUser, proxies: int, sent: str, prefix: str
) -> None:
    headers = {**user.headers, "X-Forwarded-Prefix": sent}
    client = proxied(proxies)
    made = client.post("/api/projects", json={"name": "x"}, headers=headers)
    assert made.headers["Location"] == f"{prefix}/api/projects/{(made.json or {})['id']}"
    links = client.get("/", headers=headers).json or {}
    assert links["documentation"] == f"{prefix}/docs"
    document = client.get("/openapi.json", headers=headers).json or {}
    assert document["servers"][0]["url"] == (prefix or "/")


def test_replayed_location_has_prefix_of_its_own_request(
    proxied: Callable[[int], FlaskClient], user: LoggedInUser
) -> None:
    client, key = proxied(1), {"Idempotency-Key": "created once"}
    for prefix in ("/parley", "", "/chat/v2", "/parley"):
        headers = {**user.headers, **key, "X-Forwarded-Prefix": prefix}
        made = client.post("/api/projects", json={"name": "x"}, headers=headers)
        assert made.headers["Location"] == f"{prefix}/api/projects/{(made.json or {})['id']}"
    assert made.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("proxies", [0, 1])
def test_forwarded_host_and_port_are_ignored(
    proxied: Callable[[int], FlaskClient], user: LoggedInUser, proxies: int
) -> None:
    lies = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Port": "1",
        "X-Real-IP": "1",
    }
    made = proxied(proxies).post("/api/projects", json={"name": "x"}, headers={**user.headers, **lies})
    assert made.headers["Location"].startswith("/api/projects/")


def test_ignored_header_is_logged_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    client = create_app(settings).test_client()
    client.get("/api/projects")
    assert "TRUSTED_PROXIES" not in caplog.text
    for _ in range(3):
        client.get("/api/projects", headers={"X-Forwarded-For": "10.9.9.9"})
    assert caplog.text.count("set TRUSTED_PROXIES") == 1
    assert "10.9.9.9" not in caplog.text
