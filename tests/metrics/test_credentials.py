"""Metrics of logins, refreshed sessions and API keys: each is counted once, by its outcome."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.services import sessions
from app.services.passwords import PasswordHasher
from app.services.sessions import Client, Tokens
from tests.api.keys import Key, change_key, make_key
from tests.api.responses import bearer
from tests.factories import PASSWORD, PASSWORD_HASH, LoggedInUser
from tests.metrics.scrape import Since, here

Chat = Callable[..., TestResponse]


@pytest.fixture
def log_in(settings: Settings) -> Iterator[Callable[[str, str], int]]:
    """Yield a function that logs in on an application of its own, which allows two wrong passwords."""
    limits = settings.limits.model_copy(update={"login_failures": 2})
    flask_app = create_app(replace(settings, limits=limits))

    def log_in(email: str, password: str) -> int:
        return flask_app.test_client().post("/api/auth/login", json={"email": email, "password": password}).status_code

    yield log_in
    with flask_app.app_context():
        db.engine.dispose()


@pytest.fixture
def tokens(flask_app: Flask, engine: Engine, user: LoggedInUser) -> Tokens:
    with flask_app.app_context(), engine.begin() as connection:
        return sessions.open_session(connection, user.id, PASSWORD_HASH, Client())


def counted(since: Since, name: str) -> dict[str, float]:
    """Return the outcomes of `name` that were counted since then."""
    counts = {outcome: since.counted(name, outcome=outcome) for outcome in here().labels(name, "outcome")}
    return {outcome: count for outcome, count in counts.items() if count}


def test_login_is_counted_by_outcome(
    log_in: Callable[[str, str], int], engine: Engine, user: LoggedInUser, since: Since
) -> None:
    assert log_in(user.email, PASSWORD) == 200
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET status = 'disabled' WHERE id = :u"), {"u": user.id})
    assert log_in(user.email, PASSWORD) == 403
    assert [log_in("unknown@example.org", PASSWORD) for _ in range(3)] == [401, 401, 429]
    assert counted(since, "logins_total") == {"succeeded": 1, "disabled": 1, "wrong": 2, "limited": 1}


def test_login_on_overloaded_server_is_counted_as_failed(flask_app: Flask, user: LoggedInUser, since: Since) -> None:
    before = flask_app.extensions["parley"]
    full = PasswordHasher(queue=0)
    full._slots.acquire()
    flask_app.extensions["parley"] = replace(before, passwords=full)
    try:
        sent = {"email": user.email, "password": PASSWORD}
        assert flask_app.test_client().post("/api/auth/login", json=sent).status_code == 503
    finally:
        flask_app.extensions["parley"] = before
    assert counted(since, "logins_total") == {"failed": 1}


def test_refresh_is_counted_by_outcome(
    client: FlaskClient, engine: Engine, user: LoggedInUser, tokens: Tokens, since: Since
) -> None:
    def refresh(token: str) -> int:
        return client.post("/api/auth/refresh", headers=bearer(token)).status_code

    newer = client.post("/api/auth/refresh", headers=bearer(tokens.refresh_token)).json["refresh_token"]
    assert refresh(newer) == 200
    with engine.begin() as connection:
        older = text("UPDATE sessions SET rotated_at = rotated_at - interval '1 minute' WHERE user_id = :u")
        connection.execute(older, {"u": user.id})
    assert refresh(tokens.refresh_token) == 401
    assert counted(since, "session_refreshes_total") == {"succeeded": 2, "reused": 1}
    assert refresh(newer) == 401
    assert counted(since, "session_refreshes_total") == {"succeeded": 2, "reused": 1, "ended": 1}


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ("revoked_at = now()", "revoked"),
        ("expires_at = now()", "expired"),
        ("key_hash = decode(repeat('00', 32), 'hex')", "unknown"),
        ("scopes = '{chat}'", "forbidden"),
    ],
)
def test_refused_key_is_counted_by_reason(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser, since: Since, change: str, outcome: str
) -> None:
    key = make_key(flask_app, user)
    change_key(engine, key, change)
    assert client.get("/api/projects", headers=key.headers).status_code in (401, 403)
    assert counted(since, "api_key_requests_total") == {outcome: 1}


def test_key_of_disabled_user_and_malformed_key_are_counted(
    client: FlaskClient, flask_app: Flask, engine: Engine, user: LoggedInUser, since: Since
) -> None:
    key = make_key(flask_app, user)
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET status = 'disabled' WHERE id = :u"), {"u": user.id})
    assert client.get("/api/projects", headers=key.headers).status_code == 401
    assert client.get("/api/projects", headers=bearer("prl_invented")).status_code == 401
    assert counted(since, "api_key_requests_total") == {"disabled": 1, "malformed": 1}


def test_key_where_only_sessions_are_accepted_is_forbidden(
    client: FlaskClient, flask_app: Flask, user: LoggedInUser, since: Since
) -> None:
    key = make_key(flask_app, user)
    assert client.get("/api/auth/me", headers=key.headers).status_code == 403
    assert counted(since, "api_key_requests_total") == {"forbidden": 1}


def test_each_request_with_accepted_key_is_counted_once(
    client: FlaskClient, flask_app: Flask, user: LoggedInUser, since: Since
) -> None:
    key = make_key(flask_app, user)
    for _ in range(3):
        assert client.get("/api/projects", headers=key.headers).status_code == 200
    assert client.post("/api/projects", json={"name": "a"}, headers=key.headers).status_code == 201
    assert counted(since, "api_key_requests_total") == {"accepted": 4}


@pytest.mark.parametrize(("change", "outcome"), [("", "accepted"), ("revoked_at = now()", "revoked")])
def test_chat_with_key_is_counted_once(
    chat_client: FlaskClient,
    flask_app: Flask,
    engine: Engine,
    user: LoggedInUser,
    since: Since,
    change: str,
    outcome: str,
) -> None:
    key: Key = make_key(flask_app, user)
    if change:
        change_key(engine, key, change)
    chat_client.post("/api/chat", json={"message": "hello"}, headers=key.headers)
    assert counted(since, "api_key_requests_total") == {outcome: 1}
