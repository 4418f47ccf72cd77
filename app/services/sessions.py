"""Sessions: one per login, with its tokens, which are invalid after the session's end.

The access token is short-lived and not stored. The refresh token is derived from the session's row only, so it can be
reproduced: tabs that refresh with the same token at the same time all get the same new one. The row holds its
SHA-256, which identifies the signing key as well: keys may rotate before the token is reproduced. Times are of this
machine's clock, in microseconds, like those of the database.
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

from app.database import autocommit
from app.errors import NotAuthenticated
from app.ids import new_id
from app.metrics.credentials import record_session_refresh
from app.repositories import sessions as sql
from app.services.identity import Identity
from app.services.signing_keys import SigningKey, signing_keys

GRACE = timedelta(seconds=10)  # in which all uses of a token get the same answer

_ENDED = "The session has ended; log in again."
_REUSED = "This refresh token was used before, so its session has been ended; log in again."


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a login: its address and its User-Agent header."""

    address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a login or refresh. `expires_in` is the lifetime of the access token in seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105  # the kind of token, not one


def open_session(connection: Connection, user_id: UUID, seen_hash: str, client: Client) -> Tokens:
    """Open a session of the active user whose password hash is still `seen_hash`. Does not commit.

    Raises `NotAuthenticated` if the user has changed since then.
    """
    identity, now = Identity(user_id, new_id()), datetime.now(UTC)
    expires_at = now + _refresh_lifetime()
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
    """Return `identity` with its role, read in one statement.

    Raises `NotAuthenticated` unless the session belongs to the user, is neither revoked nor expired, and the user is
    active.
    """
    with autocommit() as connection:
        row = sql.IDENTIFY.one(connection, {"user_id": identity.user_id, "session_id": identity.session_id})
    if row is None:
        raise NotAuthenticated(_ENDED)
    return replace(identity, role=row.role)


def refresh(identity: Identity, refresh_token: str) -> Tokens:
    """Return new tokens for a verified `refresh_token`, whose claims are `identity`.

    The session's current token rotates, and the session gets its full lifetime from now. Within `GRACE` of the rotation
    the previous token gives the same new token, however often. Later it gives a second new token, provided that the
    first one was never presented; both are valid until one of them is presented, and the other one counts as used then.
    Any other token ends the session. Raises `NotAuthenticated`.
    """
    now = datetime.now(UTC)
    expires_at = now + _refresh_lifetime()
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
        record_session_refresh("ended")
        raise NotAuthenticated(_ENDED)
    if row.revoked_at is not None:
        record_session_refresh("reused")
        raise NotAuthenticated(_REUSED)
    tokens = _tokens(identity, _current_token(identity, row))
    record_session_refresh("succeeded")
    return tokens


def revoke(identity: Identity) -> None:
    """Revoke the session; its tokens are invalid at once."""
    with autocommit() as connection:
        sql.REVOKE.one(connection, {"user_id": identity.user_id, "session_id": identity.session_id})


def revoke_all(connection: Connection, user_id: UUID) -> None:
    """Revoke all sessions of a user. Does not commit."""
    sql.REVOKE_ALL.all(connection, {"user_id": user_id})


def _tokens(identity: Identity, refresh_token: str) -> Tokens:
    access_token = create_access_token(str(identity.user_id), additional_claims={"sid": str(identity.session_id)})
    lifetime: timedelta = current_app.config["JWT_ACCESS_TOKEN_EXPIRES"]
    return Tokens(access_token, refresh_token, int(lifetime.total_seconds()))


def _current_token(identity: Identity, row: Row[Any]) -> str:
    """Reproduce the session's current refresh token, with the key that signed it.

    Raises `NotAuthenticated` if this process does not have that key. A token whose hash is not in the row must not be
    returned, because its next use would count as reuse.
    """
    for key in signing_keys():
        token = _refresh_token(identity, row.rotated_at, row.expires_at, key)
        if _hash(token) == bytes(row.refresh_hash):
            return token
    raise NotAuthenticated(_ENDED)


def _refresh_token(
    identity: Identity, rotated_at: datetime, expires_at: datetime, key: SigningKey | None = None
) -> str:
    """Return the refresh token of these arguments, the same one on each call. Times are in seconds, `jti` is exact.

    Flask-JWT-Extended adds random claims to its tokens, but does not require them. `key` defaults to the current one.
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


def _refresh_lifetime() -> timedelta:
    lifetime: timedelta = current_app.config["JWT_REFRESH_TOKEN_EXPIRES"]
    return lifetime


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _cut(text: str | None, length: int) -> str | None:
    """Return the first `length` characters without NUL, which PostgreSQL cannot store."""
    return text.replace("\x00", "\ufffd")[:length] if text else None
