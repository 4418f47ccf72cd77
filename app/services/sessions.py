"""Sessions: one per login, with its tokens. A token opens nothing once its session has ended.

The access token is short and stored nowhere. The refresh token is made of nothing but the session's row, so it can be
made again: two tabs that refresh with the same token at the same time both get the same new one. The row holds its
SHA-256, which also tells by which key it was signed: another may sign by the time it is made again. Times come from
this machine's clock and are exact to the microsecond, like the database's.
"""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import jwt
from flask import current_app
from flask_jwt_extended import create_access_token
from sqlalchemy import Connection, Row

from app.errors import NotAuthenticated
from app.extensions import db
from app.models.columns import new_id
from app.repositories import sessions as sql
from app.services.identity import Identity
from app.services.signing_keys import SigningKey, signing_keys

GRACE = timedelta(seconds=10)  # for which the token before the current one is honoured, once

_ENDED = "The session has ended; log in again."
_REUSED = "This refresh token was used before, so its session has been ended; log in again."


@dataclass(frozen=True, slots=True)
class Client:
    """Where a login comes from: its address and what its program calls itself."""

    address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login or refresh gives. `expires_in` is the access token's life in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105  # the kind of token, not one


def autocommit() -> Connection:
    """A connection on which each statement is its own transaction, without BEGIN and COMMIT going over the wire."""
    return db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def open_session(connection: Connection, user_id: UUID, seen_hash: str, client: Client) -> Tokens:
    """A new session of the active user whose password hash is still `seen_hash`; the caller commits.

    Raises `NotAuthenticated` when the account has changed since.
    """
    identity, now = Identity(user_id, new_id()), datetime.now(UTC)
    expires_at = now + _refresh_life()
    refresh_token = _refresh_token(identity, now, expires_at)
    parameters = {
        "user_id": user_id,
        "session_id": identity.session_id,
        "seen_hash": seen_hash,
        "refresh_hash": _hash(refresh_token),
        "now": now,
        "expires_at": expires_at,
        "user_agent": _cut(client.user_agent, 255),
        "address": _cut(client.address, 45),
    }
    if sql.OPEN.one(connection, parameters) is None:
        raise NotAuthenticated("The account was changed while you were logging in; log in again.")
    return _tokens(identity, refresh_token)


def identify(identity: Identity) -> Identity:
    """`identity` with its role, read in one statement.

    Raises `NotAuthenticated` unless the session is the user's, neither revoked nor expired, and the user is active.
    """
    with autocommit() as connection:
        row = sql.IDENTIFY.one(connection, {"user_id": identity.user_id, "session_id": identity.session_id})
    if row is None:
        raise NotAuthenticated(_ENDED)
    return replace(identity, role=row.role)


def refresh(identity: Identity, refresh_token: str) -> Tokens:
    """New tokens for a verified `refresh_token`, whose claims are `identity`.

    The session's current token rotates, and the session lasts its full life from now. The one before is honoured once
    within `GRACE` of that, with the very token that it was replaced by. Any other ends the session. Raises
    `NotAuthenticated`.
    """
    now = datetime.now(UTC)
    expires_at = now + _refresh_life()
    parameters = {
        "user_id": identity.user_id,
        "session_id": identity.session_id,
        "presented": _hash(refresh_token),
        "replacement": _hash(_refresh_token(identity, now, expires_at)),
        "now": now,
        "expires_at": expires_at,
        "grace_from": now - GRACE,
    }
    with autocommit() as connection:
        row = sql.REFRESH.one(connection, parameters)
    if row is None:
        raise NotAuthenticated(_ENDED)
    if row.revoked_at is not None:
        raise NotAuthenticated(_REUSED)
    return _tokens(identity, _current_token(identity, row))


def revoke(identity: Identity) -> None:
    """End the session; its tokens fail from now on."""
    with autocommit() as connection:
        sql.REVOKE.one(connection, {"user_id": identity.user_id, "session_id": identity.session_id})


def revoke_all(connection: Connection, user_id: UUID) -> None:
    """End all sessions of a user; the caller commits."""
    sql.REVOKE_ALL.all(connection, {"user_id": user_id})


def _tokens(identity: Identity, refresh_token: str) -> Tokens:
    access_token = create_access_token(str(identity.user_id), additional_claims={"sid": str(identity.session_id)})
    life: timedelta = current_app.config["JWT_ACCESS_TOKEN_EXPIRES"]
    return Tokens(access_token, refresh_token, int(life.total_seconds()))


def _current_token(identity: Identity, row: Row[Any]) -> str:
    """The session's current refresh token, made again with the key that it was made with.

    Raises `NotAuthenticated` if that key is none of this process's. Nothing is given out that the row does not hold:
    it would count as stolen the next time.
    """
    for key in signing_keys():
        token = _refresh_token(identity, row.rotated_at, row.expires_at, key)
        if _hash(token) == bytes(row.refresh_hash):
            return token
    raise NotAuthenticated(_ENDED)


def _refresh_token(
    identity: Identity, rotated_at: datetime, expires_at: datetime, key: SigningKey | None = None
) -> str:
    """The same token for the same arguments, wherever it is made. Its times are whole seconds, its `jti` is exact.

    Flask-JWT-Extended puts random claims into what it makes; what it verifies may do without them. `key` is the
    current one where none is given.
    """
    assert identity.session_id is not None  # noqa: S101  # API keys have no refresh tokens
    config, key = current_app.config, key or signing_keys().current
    claims = {
        "sub": str(identity.user_id),
        "sid": str(identity.session_id),
        "jti": str(uuid5(identity.session_id, rotated_at.astimezone(UTC).isoformat())),
        "type": "refresh",
        "iss": config["JWT_ENCODE_ISSUER"],
        "aud": config["JWT_ENCODE_AUDIENCE"],
        "iat": int(rotated_at.timestamp()),
        "exp": int(expires_at.timestamp()),
    }
    return jwt.encode(claims, key.secret, config["JWT_ALGORITHM"], headers={"kid": key.id})


def _refresh_life() -> timedelta:
    life: timedelta = current_app.config["JWT_REFRESH_TOKEN_EXPIRES"]
    return life


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _cut(text: str | None, longest: int) -> str | None:
    """What fits, and what PostgreSQL can store."""
    return text.replace("\x00", "\ufffd")[:longest] if text else None
