"""Rotation of signing keys: sessions continue, and tokens of retired keys are refused."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jwt
import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.config import Settings
from app.extensions import db
from app.factory import create_app
from app.services import sessions
from app.services.sessions import Client, Tokens
from app.services.signing_keys import SigningKey, SigningKeys, UnknownSigningKey
from tests.api.responses import assert_unauthenticated, bearer
from tests.factories import PASSWORD_HASH, LoggedInUser

OLD, NEW, NEWER = (f"{name}-signing-key-0123456789abcdefghij" for name in ("old", "new", "newer"))


@pytest.fixture(scope="module")
def server(settings: Settings, flask_app: Flask) -> Iterator[Callable[..., Flask]]:
    """Yield a function that returns an application with these keys: the signing one, then previous ones."""
    created: dict[tuple[str, ...], Flask] = {}

    def with_keys(current: str, *previous: str) -> Flask:
        if (current, *previous) not in created:
            keys = {"jwt_secret_key": SecretStr(current), "jwt_previous_keys": tuple(map(SecretStr, previous))}
            created[(current, *previous)] = create_app(replace(settings, auth=settings.auth.model_copy(update=keys)))
        return created[(current, *previous)]

    yield with_keys
    for application in created.values():
        with application.app_context():
            db.engine.dispose()


@pytest.fixture
def log_in(engine: Engine, user: LoggedInUser) -> Callable[[Flask], Tokens]:
    """Return a function that opens a session on an application, as a login does."""

    def opened(application: Flask) -> Tokens:
        with application.app_context(), engine.begin() as connection:
            return sessions.open_session(connection, user.id, PASSWORD_HASH, Client())

    return opened


def me(application: Flask, token: str) -> TestResponse:
    return application.test_client().get("/api/auth/me", headers=bearer(token))


def refresh(application: Flask, token: str) -> TestResponse:
    return application.test_client().post("/api/auth/refresh", headers=bearer(token))


def pair_of(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return dict(response.json or {})


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def test_tokens_contain_id_of_signing_key(server: Callable[..., Flask], log_in: Any) -> None:
    tokens = log_in(server(OLD))
    assert kid(tokens.access_token) == kid(tokens.refresh_token) == SigningKey(OLD).id
    assert len(SigningKey(OLD).id) == 16
    assert SigningKey(OLD).id != SigningKey(NEW).id
    assert OLD not in repr(SigningKey(OLD))


def test_previous_key_verifies_and_current_key_signs(server: Callable[..., Flask], log_in: Any) -> None:
    tokens = log_in(server(OLD))
    rotated = server(NEW, OLD)
    assert me(rotated, tokens.access_token).status_code == 200
    pair = pair_of(refresh(rotated, tokens.refresh_token))
    assert kid(pair["access_token"]) == kid(pair["refresh_token"]) == SigningKey(NEW).id
    assert me(rotated, pair["access_token"]).status_code == 200
    assert me(server(NEW), pair["access_token"]).status_code == 200  # and the old key can be removed
    pair_of(refresh(server(NEW), pair["refresh_token"]))


def test_token_of_retired_key_is_401(server: Callable[..., Flask], log_in: Any) -> None:
    tokens = log_in(server(OLD))
    for application in (server(NEW), server(NEWER, NEW)):
        assert_unauthenticated(me(application, tokens.access_token), "signed with a key")
        assert_unauthenticated(refresh(application, tokens.refresh_token), "signed with a key")
    # The session continues on servers that know the key.
    pair_of(refresh(server(NEW, OLD), tokens.refresh_token))


def test_token_with_wrong_key_id_is_401(server: Callable[..., Flask], log_in: Any, user: LoggedInUser) -> None:
    rotated = server(NEW, OLD)
    claims = jwt.decode(log_in(rotated).access_token, options={"verify_signature": False})

    def signed(key: str, headers: dict[str, Any] | None) -> str:
        return jwt.encode(claims, key, "HS256", headers=headers)

    assert me(rotated, signed(OLD, {"kid": SigningKey(OLD).id})).status_code == 200
    assert me(rotated, signed(NEW, None)).status_code == 200
    for key, headers in (
        (OLD, {"kid": SigningKey(NEW).id}),
        (NEW, {"kid": SigningKey(OLD).id}),
        (NEWER, {"kid": SigningKey(NEW).id}),
        (NEWER, {"kid": SigningKey(NEWER).id}),
        (NEWER, None),
        (OLD, None),
        (NEW, {"kid": ""}),
        (NEW, {"kid": NEW}),
        (NEW, {"kid": SigningKey(NEW).id.upper()}),
    ):
        assert_unauthenticated(me(rotated, signed(key, headers)), "")


def test_parallel_refresh_after_rotation_returns_same_token(server: Callable[..., Flask], log_in: Any) -> None:
    """Signed with another key it would be another token, which the next refresh would count as stolen."""
    tokens = log_in(server(OLD))
    first = pair_of(refresh(server(OLD), tokens.refresh_token))
    second = pair_of(refresh(server(NEW, OLD), tokens.refresh_token))
    assert second["refresh_token"] == first["refresh_token"]
    assert kid(second["refresh_token"]) == SigningKey(OLD).id
    assert kid(second["access_token"]) == SigningKey(NEW).id
    third = pair_of(refresh(server(NEW, OLD), second["refresh_token"]))
    assert kid(third["refresh_token"]) == SigningKey(NEW).id
    assert me(server(NEW), third["access_token"]).status_code == 200


def test_parallel_refresh_before_restart_returns_same_token(server: Callable[..., Flask], log_in: Any) -> None:
    """A rotation in two steps: the new key verifies on all servers before one of them signs with it."""
    tokens = log_in(server(OLD))
    first = pair_of(refresh(server(NEW, OLD), tokens.refresh_token))
    second = pair_of(refresh(server(OLD, NEW), tokens.refresh_token))
    assert second["refresh_token"] == first["refresh_token"]
    assert kid(second["refresh_token"]) == SigningKey(NEW).id
    for application in (server(OLD, NEW), server(NEW, OLD)):
        assert me(application, second["access_token"]).status_code == 200
    pair_of(refresh(server(OLD, NEW), second["refresh_token"]))


def test_refresh_on_server_without_new_key_is_401(server: Callable[..., Flask], log_in: Any) -> None:
    """A server without the new key: a token signed with the old one would end the session when it is used."""
    tokens = log_in(server(OLD))
    first = pair_of(refresh(server(NEW, OLD), tokens.refresh_token))
    assert_unauthenticated(refresh(server(OLD), tokens.refresh_token), "log in again")
    pair_of(refresh(server(NEW, OLD), first["refresh_token"]))


def test_parallel_refreshes_during_rotation_return_same_token(server: Callable[..., Flask], log_in: Any) -> None:
    before, after = server(OLD, NEW), server(NEW, OLD)
    for _ in range(5):
        tokens = log_in(before)
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda server: pair_of(refresh(server, tokens.refresh_token)), (before, after)))  # noqa: B023
        assert both[0]["refresh_token"] == both[1]["refresh_token"]
        pair_of(refresh(after, both[0]["refresh_token"]))


def test_session_survives_chain_of_rotations(server: Callable[..., Flask], log_in: Any) -> None:
    token = log_in(server(OLD)).refresh_token
    for application in (server(NEW, OLD), server(NEWER, NEW, OLD), server(NEWER, NEW), server(NEWER)):
        pair = pair_of(refresh(application, token))
        assert me(application, pair["access_token"]).status_code == 200
        token = pair["refresh_token"]


def test_reuse_after_rotation_ends_session(server: Callable[..., Flask], log_in: Any) -> None:
    tokens = log_in(server(OLD))
    rotated = server(NEW, OLD)
    second = pair_of(refresh(rotated, tokens.refresh_token))
    third = pair_of(refresh(rotated, second["refresh_token"]))
    assert_unauthenticated(refresh(rotated, tokens.refresh_token), "used before")
    assert_unauthenticated(refresh(rotated, third["refresh_token"]), "ended")


def test_signing_keys_select_key_by_id() -> None:
    keys = SigningKeys(NEW, [OLD, NEW])
    assert [key.secret for key in keys] == [NEW, OLD]
    assert keys.verifying({"kid": SigningKey(OLD).id}).secret == OLD
    assert keys.verifying({"alg": "HS256"}).secret == NEW
    with pytest.raises(UnknownSigningKey):
        keys.verifying({"kid": SigningKey(NEWER).id})
