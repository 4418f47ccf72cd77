"""Refresh tokens over HTTP: rotation, the grace period, reuse, and ended sessions."""

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
from tests.api.responses import assert_unauthenticated, bearer
from tests.factories import PASSWORD, PASSWORD_HASH, LoggedInUser

Refresh = Callable[[str], TestResponse]


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


@pytest.fixture
def tokens(flask_app: Flask, engine: Engine, user: LoggedInUser) -> Tokens:
    """Open a second session of the user, as a login does, and return its tokens."""
    with flask_app.app_context(), engine.begin() as connection:
        return sessions.open_session(connection, user.id, PASSWORD_HASH, Client())


@pytest.fixture
def refresh(client: FlaskClient) -> Refresh:
    return lambda token: client.post("/api/auth/refresh", headers=bearer(token))


@pytest.fixture
def change_session(engine: Engine, tokens: Tokens) -> Callable[[str], None]:
    """Return a function that sets columns of the session, as time or another process would."""

    def change(assignments: str) -> None:
        with engine.begin() as connection:
            sid = claims_of(tokens.refresh_token)["sid"]
            connection.execute(text(f"UPDATE sessions SET {assignments} WHERE id = :s"), {"s": sid})

    return change


def me(client: FlaskClient, access_token: str) -> int:
    return client.get("/api/auth/me", headers=bearer(access_token)).status_code


def test_refresh_returns_new_tokens_of_same_session(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, user: LoggedInUser
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
    assert me(client, tokens.access_token) == 200  # the old access token stays valid until it expires
    assert refresh(pair["refresh_token"]).status_code == 200


def token_of(answer: Any) -> str:
    """Return the refresh token of a successful response."""
    assert answer.status_code == 200, answer.json
    return str(answer.json["refresh_token"])


def test_refresh_previous_token_repeatedly_returns_same_token(
    client: FlaskClient, refresh: Refresh, tokens: Tokens
) -> None:
    pairs = [refresh(tokens.refresh_token).json or {} for _ in range(5)]
    assert len({pair["refresh_token"] for pair in pairs}) == 1
    assert [me(client, pair["access_token"]) for pair in pairs] == [200] * 5
    assert token_of(refresh(pairs[0]["refresh_token"])) != pairs[0]["refresh_token"]


AGED = "rotated_at = rotated_at - interval '11 seconds'"  # longer ago than the grace time


@pytest.mark.parametrize("presented", ["first", "second"])
def test_refresh_after_lost_answer_gives_second_token(
    refresh: Refresh, tokens: Tokens, change_session: Callable[[str], None], presented: str
) -> None:
    """Both tokens are valid until one of them is presented; the other one ends the session then."""
    first = token_of(refresh(tokens.refresh_token))
    change_session(AGED)
    second = token_of(refresh(tokens.refresh_token))
    assert second != first
    assert token_of(refresh(tokens.refresh_token)) == second
    used, unused = (first, second) if presented == "first" else (second, first)
    third = token_of(refresh(used))
    assert token_of(refresh(used)) == third
    assert_unauthenticated(refresh(unused), "used before")
    assert_unauthenticated(refresh(third), "ended")


@pytest.mark.parametrize("presented", ["first", "second"])
def test_refresh_token_with_presented_successor_ends_session(
    client: FlaskClient,
    refresh: Refresh,
    tokens: Tokens,
    change_session: Callable[[str], None],
    presented: str,
) -> None:
    successors = {"first": token_of(refresh(tokens.refresh_token))}
    if presented == "second":
        change_session(AGED)
        successors["second"] = token_of(refresh(tokens.refresh_token))
    token_of(refresh(successors[presented]))
    change_session(AGED)
    assert_unauthenticated(refresh(tokens.refresh_token), "used before")
    assert me(client, tokens.access_token) == 401


def test_refresh_after_two_lost_answers_gives_second_token_again(
    refresh: Refresh, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "GRACE", timedelta(0))
    first, *later = [token_of(refresh(tokens.refresh_token)) for _ in range(4)]
    assert first not in later
    assert len(set(later)) == 1


def test_refresh_previous_token_within_grace_is_accepted(
    flask_app: Flask, refresh: Refresh, tokens: Tokens, user: LoggedInUser, change_session: Callable[[str], None]
) -> None:
    current = claims_of(refresh(tokens.refresh_token).json["refresh_token"])  # type: ignore[index]
    change_session("rotated_at = date_trunc('second', rotated_at) - interval '5 seconds'")
    # The token is derived from the row, so its hash changes too.
    identity = Identity(user.id, UUID(current["sid"]))
    times = [datetime.fromtimestamp(current[name], UTC) for name in ("iat", "exp")]
    with flask_app.app_context():
        token = sessions._refresh_token(identity, times[0] - timedelta(seconds=5), times[1])
    digest = hashlib.sha256(token.encode()).hexdigest()
    change_session(f"refresh_hash = '\\x{digest}'")
    repeated = refresh(tokens.refresh_token)
    assert (repeated.status_code, (repeated.json or {}).get("refresh_token")) == (200, token)


def test_refresh_older_token_ends_session(refresh: Refresh, tokens: Tokens) -> None:
    second = (refresh(tokens.refresh_token).json or {})["refresh_token"]
    third = (refresh(second).json or {})["refresh_token"]
    assert_unauthenticated(refresh(tokens.refresh_token), "used before")
    assert_unauthenticated(refresh(third), "ended")


def test_reused_token_ends_only_its_session(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, user: LoggedInUser
) -> None:
    token_of(refresh(token_of(refresh(tokens.refresh_token))))
    assert_unauthenticated(refresh(tokens.refresh_token), "used before")
    assert me(client, tokens.access_token) == 401
    assert me(client, user.access_token) == 200


@pytest.mark.parametrize(
    "assignments", ["expires_at = now() - interval '1 second'", "revoked_at = now()"], ids=["expired", "revoked"]
)
def test_refresh_ended_session_is_401(
    refresh: Refresh, tokens: Tokens, change_session: Callable[[str], None], assignments: str
) -> None:
    change_session(assignments)
    assert_unauthenticated(refresh(tokens.refresh_token), "ended")


def test_expired_refresh_token_is_401(flask_app: Flask, refresh: Refresh, tokens: Tokens) -> None:
    late = {**claims_of(tokens.refresh_token), "exp": 1}
    assert_unauthenticated(refresh(jwt.encode(late, flask_app.config["JWT_SECRET_KEY"], "HS256")), "expired")


@pytest.mark.parametrize(
    "change", ["UPDATE users SET status = 'disabled' WHERE id = :u", "DELETE FROM users WHERE id = :u"]
)
def test_refresh_disabled_or_deleted_user_is_401(
    engine: Engine, refresh: Refresh, tokens: Tokens, user: LoggedInUser, change: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(change), {"u": user.id})
    assert_unauthenticated(refresh(tokens.refresh_token), "ended")


def test_refresh_after_logout_is_401(client: FlaskClient, refresh: Refresh, tokens: Tokens) -> None:
    assert client.post("/api/auth/logout", headers=bearer(tokens.access_token)).status_code == 204
    assert_unauthenticated(refresh(tokens.refresh_token), "ended")
    assert me(client, tokens.access_token) == 401


def test_logout_with_refresh_token_is_401(client: FlaskClient, tokens: Tokens) -> None:
    assert_unauthenticated(client.post("/api/auth/logout", headers=bearer(tokens.refresh_token)), "wrong type")
    assert me(client, tokens.access_token) == 200


def test_change_password_ends_all_sessions(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, user: LoggedInUser
) -> None:
    body = {"current_password": PASSWORD, "new_password": "another horse"}
    assert client.post("/api/auth/password", json=body, headers=user.headers).status_code == 204
    assert me(client, user.access_token) == 401
    assert me(client, tokens.access_token) == 401
    assert_unauthenticated(refresh(tokens.refresh_token), "ended")


def test_refresh_never_issued_token_counts_as_reuse(flask_app: Flask, refresh: Refresh, tokens: Tokens) -> None:
    other = {**claims_of(tokens.refresh_token), "jti": "x"}
    assert_unauthenticated(refresh(jwt.encode(other, flask_app.config["JWT_SECRET_KEY"], "HS256")), "used before")


def test_refresh_other_users_session_is_401(
    flask_app: Flask, client: FlaskClient, refresh: Refresh, tokens: Tokens, other_user: LoggedInUser
) -> None:
    swapped = {**claims_of(tokens.refresh_token), "sub": str(other_user.id)}
    assert_unauthenticated(refresh(jwt.encode(swapped, flask_app.config["JWT_SECRET_KEY"], "HS256")), "ended")
    assert me(client, tokens.access_token) == 200


@pytest.mark.parametrize("header", ["Bearer {token}, x", "Bearer {token},", "x, Bearer {token}"])
def test_refresh_list_in_header_is_401_and_keeps_session(
    client: FlaskClient, refresh: Refresh, tokens: Tokens, header: str
) -> None:
    answer = client.post("/api/auth/refresh", headers={"Authorization": header.format(token=tokens.refresh_token)})
    assert_unauthenticated(answer, "Authorization")
    assert refresh(tokens.refresh_token).status_code == 200
