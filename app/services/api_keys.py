"""API keys, with which programs call as their owner.

    prl_<43 characters: the key's id and its owner's>_<43 characters: 32 random bytes>

A key is shown once, when it is created; the row holds its SHA-256. A secret of 256 random bits cannot be guessed, so
unlike a password it needs no slow hash. It stays valid when the password changes. It is invalid after its expiry or
revocation, and while its owner is disabled.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from app.database import autocommit
from app.enums import KeyScope, UserRole
from app.errors import NotAuthenticated, NotFound, PermissionDenied
from app.ids import new_id
from app.metrics.credentials import record_api_key_request
from app.models import ApiKey
from app.repositories import api_keys as sql
from app.services.identity import Identity, PresentedKey
from app.services.transactions import autocommit_session

MARK = "prl_"  # the prefix by which people, log filters and secret scanners recognize a key
SHOWN_CHARS = 16  # the characters that identify a key to its owner; they contain nothing secret

_FORM = re.compile(rf"{MARK}([\w-]{{43}})_[\w-]{{43}}", re.ASCII)
_ENDED = {
    "revoked": "This API key has been revoked; create another with `POST /api/auth/keys`.",
    "expired": "This API key has expired; create another with `POST /api/auth/keys`.",
    "disabled": "The account of this API key is disabled; ask an operator of this server.",
}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key. `secret` is the key itself, which is not stored."""

    row: ApiKey
    secret: str = field(repr=False)


def page(user_id: UUID, *, after: tuple[UUID] | None = None, limit: int) -> Sequence[ApiKey]:
    """Return a page, newest first, revoked and expired keys included, and one item more if there is a next page."""
    with autocommit_session() as session:
        return sql.page(session, user_id, after=after[0] if after else None, limit=limit + 1)


def create(caller: Identity, *, name: str, scopes: Iterable[KeyScope], expires_in_days: int | None = None) -> NewKey:
    """Create a key of the caller. Without `expires_in_days` it is valid until it is revoked.

    Raises `PermissionDenied` if a caller who is not an admin requests the scope admin.
    """
    requested = set(scopes)
    if KeyScope.ADMIN in requested and caller.role != UserRole.ADMIN:
        raise PermissionDenied("Only an admin may create a key with the scope `admin`.")
    key_id = new_id()
    ids = base64.urlsafe_b64encode(key_id.bytes + caller.user_id.bytes).rstrip(b"=").decode()
    secret = f"{MARK}{ids}_{secrets.token_urlsafe(32)}"
    values = {
        "id": key_id,
        "name": name,
        "prefix": secret[:SHOWN_CHARS],
        "key_hash": _hash(secret),
        "scopes": [scope for scope in KeyScope if scope in requested],
        "expires_at": datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days else None,
    }
    with autocommit_session() as session:
        return NewKey(sql.add(session, caller.user_id, values), secret)


def revoke(user_id: UUID, key_id: UUID) -> None:
    """Revoke a key, with effect at once. Repeating it is no error. Raises `NotFound`."""
    with autocommit_session() as session:
        revoked = sql.revoke(session, user_id, key_id)
    if revoked is None:
        raise NotFound("There is no such API key.")


def parse(key: str) -> Identity:
    """Return the caller that a key claims; the key is not verified.

    Raises `NotAuthenticated` for an invalid form.
    """
    form = _FORM.fullmatch(key)
    if form is None:
        record_api_key_request("malformed")
        raise NotAuthenticated("This API key is incomplete: send it as it was shown when it was created.")
    ids = base64.urlsafe_b64decode(form[1] + "=")
    return Identity(UUID(bytes=ids[16:]), key=PresentedKey(UUID(bytes=ids[:16]), _hash(key)))


def identify(identity: Identity, scope: KeyScope | None) -> Identity:
    """Return `identity` with its role, in one statement. Raises as `verify` does."""
    with autocommit() as connection:
        return verify(connection, identity, scope)


def verify(connection: Connection, identity: Identity, scope: KeyScope | None) -> Identity:
    """Return `identity` with its role, if its key is valid and has the scope.

    Raises `NotAuthenticated`, which says whether the key was revoked or has expired, and `PermissionDenied`, which
    names the scope. `scope` None means that API keys are not accepted.
    """
    assert identity.key is not None  # noqa: S101  # callers with a session are identified by it
    row = sql.IDENTIFY.one(
        connection,
        {
            "user_id": identity.user_id,
            "key_id": identity.key.id,
            "key_hash": identity.key.hash,
            "scope": scope,
        },
    )
    if row is None:
        record_api_key_request("unknown")
        raise NotAuthenticated("There is no such API key.")
    if row.ended is not None:
        record_api_key_request(row.ended)
        raise NotAuthenticated(_ENDED[row.ended])
    if scope is None or not row.allowed:
        record_api_key_request("forbidden")
    if scope is None:
        raise PermissionDenied(
            "API keys are not accepted here; log in with `POST /api/auth/login` and use the access token."
        )
    if not row.allowed:
        raise PermissionDenied(
            f"This API key lacks the scope `{scope}`; create one that has it with `POST /api/auth/keys`."
        )
    return replace(identity, role=row.role)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
