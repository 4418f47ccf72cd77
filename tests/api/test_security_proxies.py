"""Where a request comes from: the proxies that the operator counts are believed, and nobody else."""

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
from tests.factories import PASSWORD, Account

# What a caller at 203.0.113.9 forged, what the outer proxy saw of it, and what the inner proxy saw of that.
CHAIN = "10.9.9.9, 203.0.113.9, 198.51.100.7"


@pytest.fixture(scope="module")
def behind(settings: Settings, flask_app: Flask) -> Iterator[Callable[[int], FlaskClient]]:
    """A function that gives a client of an application behind so many proxies."""
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


def login_address(client: FlaskClient, engine: Engine, user: Account, headers: dict[str, str]) -> Any:
    """The address that the session of a login with these headers keeps."""
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
        (4, CHAIN, "127.0.0.1"),  # fewer than were to be: nothing of it is believed
        (1, "", "127.0.0.1"),
        (1, "2001:db8::7", "2001:db8::7"),
        (1, "x" * 200, "x" * 45),  # a proxy's word is taken as it is, and cut to what fits
    ],
)
def test_a_session_keeps_the_address_that_the_counted_proxies_saw(
    behind: Callable[[int], FlaskClient], engine: Engine, user: Account, proxies: int, forwarded: str, address: str
) -> None:
    assert login_address(behind(proxies), engine, user, {"X-Forwarded-For": forwarded}) == address


@pytest.mark.parametrize(("proxies", "believed"), [(0, False), (1, True), (2, True)])
def test_only_a_proxy_says_that_a_request_came_by_https(
    behind: Callable[[int], FlaskClient], proxies: int, believed: bool
) -> None:
    answer = behind(proxies).get("/health", headers={"X-Forwarded-Proto": "https"})
    assert ("Strict-Transport-Security" in answer.headers) is believed
    assert "Strict-Transport-Security" not in behind(proxies).get("/health").headers


@pytest.mark.parametrize("proxies", [0, 1])
def test_nobody_is_believed_about_the_host_or_the_prefix(
    behind: Callable[[int], FlaskClient], user: Account, proxies: int
) -> None:
    lies = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Port": "1",
        "X-Real-IP": "1",
    }
    made = behind(proxies).post("/api/projects", json={"name": "x"}, headers={**user.headers, **lies})
    assert made.headers["Location"].startswith("/api/projects/")


def test_an_ignored_header_is_reported_once(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    client = create_app(settings).test_client()
    client.get("/api/projects")
    assert "TRUSTED_PROXIES" not in caplog.text
    for _ in range(3):
        client.get("/api/projects", headers={"X-Forwarded-For": "10.9.9.9"})
    assert caplog.text.count("set TRUSTED_PROXIES") == 1
    assert "10.9.9.9" not in caplog.text
