"""Refresh tokens over HTTP: rotation, the second's grace, reuse, and all the ways in which they end."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.services import sessions
from app.services.identity import Identity
from app.services.sessions import Client, Tokens
from tests.factories import PASSWORD, PASSWORD_HASH, Account

Refresh = Callable[[str], TestResponse]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def assert_refused(response: TestResponse, words: str) -> None:
    assert (response.status_code, response.content_type) == (401, "application/problem+json"), response.text
    assert words in (response.json or {})["detail"]


@pytest.fixture
def tokens(flask_app: Flask, engine: Engine, user: Account) -> Tokens:
    """Those of a second session of the user's, opened as a login does."""
    with flask_app.app_context(), engine.begin() as connection:
        return sessions.open_session(connection, user.id, PASSWORD_HASH, Client())


@pytest.fixture
def refresh(client: FlaskClient) -> Refresh:
    return lambda token: client.post("/api/auth/refresh", headers=bearer(token))


@pytest.fixture
def change_session(engine: Engine, tokens: Tokens) -> Callable[[str], None]:
    """Set columns of the session, as the clock or another process would have."""

    def change(assignments: str) -> None:
        with engine.begin() as connection:
            sid = claims_of(tokens.refresh_token)["sid"]
            connection.execute(text(f"UPDATE sessions SET {assignments} WHERE id = :s"), {"s": sid})

    return change


def me(client: FlaskClient, access_token: str) -> int:
    return client.get("/api/auth/me", headers=bearer(access_token)).status_code


def test_a_refresh_gives_a_new_pair_of_the_same_session(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, user: Account
) -> None:
    answer = refresh(tokens.refresh_token)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    pair = answer.json
    assert pair is not None
    assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 15 * 60)
    old, new, access = (
        claims_of(token) for token in (tokens.refresh_token, pair["refresh_token"], pair["access_token"])
    )
    assert set(new) == {"sub", "sid", "jti", "type", "iss", "aud", "iat", "exp"}
    assert (new["sub"], new["sid"]) == (old["sub"], old["sid"]) == (access["sub"], access["sid"])
    assert new["sub"] == str(user.id)
    assert new["jti"] != old["jti"]
    assert me(client, pair["access_token"]) == 200
    assert me(client, tokens.access_token) == 200  # short, and the session is the same
    assert refresh(pair["refresh_token"]).status_code == 200


def test_the_one_before_is_honoured_once_and_gives_the_same_token(
    client: FlaskClient, refresh: Refresh, tokens: Tokens
) -> None:
    first = refresh(tokens.refresh_token).json
    second = refresh(tokens.refresh_token).json
    assert first is not None
    assert second is not None
    assert first["refresh_token"] == second["refresh_token"]
    assert me(client, second["access_token"]) == 200
    assert_refused(refresh(tokens.refresh_token), "used before")
    assert me(client, first["access_token"]) == 401
    assert_refused(refresh(first["refresh_token"]), "ended")


def test_the_grace_lasts_ten_seconds(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, change_session: Callable[[str], None]
) -> None:
    assert refresh(tokens.refresh_token).status_code == 200
    change_session("rotated_at = rotated_at - interval '10 seconds'")
    assert_refused(refresh(tokens.refresh_token), "used before")
    assert me(client, tokens.access_token) == 401


def test_the_grace_is_there_until_its_end(
    flask_app: Flask, refresh: Refresh, tokens: Tokens, user: Account, change_session: Callable[[str], None]
) -> None:
    current = claims_of(refresh(tokens.refresh_token).json["refresh_token"])  # type: ignore[index]
    change_session("rotated_at = date_trunc('second', rotated_at) - interval '5 seconds'")
    # The token that was given out is then another, too: it is made of the row.
    identity = Identity(user.id, UUID(current["sid"]))
    times = [datetime.fromtimestamp(current[name], UTC) for name in ("iat", "exp")]
    with flask_app.app_context():
        token = sessions._refresh_token(identity, times[0] - timedelta(seconds=5), times[1])
    digest = hashlib.sha256(token.encode()).hexdigest()
    change_session(f"refresh_hash = '\\x{digest}'")
    again = refresh(tokens.refresh_token)
    assert (again.status_code, (again.json or {}).get("refresh_token")) == (200, token)


def test_one_further_back_ends_the_session_even_at_once(refresh: Refresh, tokens: Tokens) -> None:
    second = (refresh(tokens.refresh_token).json or {})["refresh_token"]
    third = (refresh(second).json or {})["refresh_token"]
    assert_refused(refresh(tokens.refresh_token), "used before")
    assert_refused(refresh(third), "ended")


def test_a_stolen_token_ends_only_its_own_session(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, user: Account
) -> None:
    for _ in range(3):
        refresh(tokens.refresh_token)
    assert me(client, tokens.access_token) == 401
    assert me(client, user.access_token) == 200


@pytest.mark.parametrize(
    "assignments", ["expires_at = now() - interval '1 second'", "revoked_at = now()"], ids=["expired", "revoked"]
)
def test_a_session_that_is_over_is_not_refreshed(
    refresh: Refresh, tokens: Tokens, change_session: Callable[[str], None], assignments: str
) -> None:
    change_session(assignments)
    assert_refused(refresh(tokens.refresh_token), "ended")


def test_a_refresh_token_expires_by_itself(flask_app: Flask, refresh: Refresh, tokens: Tokens) -> None:
    late = {**claims_of(tokens.refresh_token), "exp": 1}
    assert_refused(refresh(jwt.encode(late, flask_app.config["JWT_SECRET_KEY"], "HS256")), "expired")


@pytest.mark.parametrize(
    "change", ["UPDATE users SET status = 'disabled' WHERE id = :u", "DELETE FROM users WHERE id = :u"]
)
def test_who_is_disabled_or_gone_refreshes_nothing(
    engine: Engine, refresh: Refresh, tokens: Tokens, user: Account, change: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(change), {"u": user.id})
    assert_refused(refresh(tokens.refresh_token), "ended")


def test_after_a_logout_the_refresh_token_is_worth_nothing(
    client: FlaskClient, refresh: Refresh, tokens: Tokens
) -> None:
    assert client.post("/api/auth/logout", headers=bearer(tokens.access_token)).status_code == 204
    assert_refused(refresh(tokens.refresh_token), "ended")
    assert me(client, tokens.access_token) == 401


def test_a_logout_needs_the_access_token(client: FlaskClient, tokens: Tokens) -> None:
    assert_refused(client.post("/api/auth/logout", headers=bearer(tokens.refresh_token)), "wrong type")
    assert me(client, tokens.access_token) == 200


def test_a_changed_password_ends_every_session(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, user: Account
) -> None:
    body = {"current_password": PASSWORD, "new_password": "another horse"}
    assert client.post("/api/auth/password", json=body, headers=user.headers).status_code == 204
    assert me(client, user.access_token) == 401
    assert me(client, tokens.access_token) == 401
    assert_refused(refresh(tokens.refresh_token), "ended")


def test_a_token_of_the_right_session_that_was_never_given_out_counts_as_reuse(
    flask_app: Flask, refresh: Refresh, tokens: Tokens
) -> None:
    other = {**claims_of(tokens.refresh_token), "jti": "x"}
    assert_refused(refresh(jwt.encode(other, flask_app.config["JWT_SECRET_KEY"], "HS256")), "used before")


def test_somebody_elses_session_is_out_of_reach(
    flask_app: Flask, client: FlaskClient, refresh: Refresh, tokens: Tokens, other_user: Account
) -> None:
    swapped = {**claims_of(tokens.refresh_token), "sub": str(other_user.id)}
    assert_refused(refresh(jwt.encode(swapped, flask_app.config["JWT_SECRET_KEY"], "HS256")), "ended")
    assert me(client, tokens.access_token) == 200


@pytest.mark.parametrize("header", ["Bearer {token}, x", "Bearer {token},", "x, Bearer {token}"])
def test_a_list_in_the_header_is_refused_without_ending_the_session(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, header: str
) -> None:
    answer = client.post("/api/auth/refresh", headers={"Authorization": header.format(token=tokens.refresh_token)})
    assert_refused(answer, "Authorization")
    assert refresh(tokens.refresh_token).status_code == 200
