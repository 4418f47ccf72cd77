"""API keys: what a program calls with in its owner's place.

    prl_<43 characters: the key's id and its owner's>_<43 characters: 32 random bytes>

A key is shown once, when it is made; the row holds its SHA-256. That is enough for a secret of 256 random bits: nobody
guesses one, so unlike a password it needs no slow hash. It outlives a change of the password, which programs know
nothing of; it ends when it expires, when it is revoked, and for as long as its owner's account is disabled.
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

from app.errors import NotAllowed, NotAuthenticated, NotFound
from app.extensions import db
from app.models import ApiKey, KeyScope, UserRole
from app.models.columns import new_id
from app.repositories import api_keys as sql
from app.services.identity import Identity, PresentedKey
from app.services.transactions import statements

MARK = "prl_"  # how every key begins: people, log filters and scanners for leaked secrets know it by this
SHOWN = 16  # characters of a key that its owner is shown again, to tell it by; they hold nothing secret

_FORM = re.compile(rf"{MARK}([\w-]{{43}})_[\w-]{{43}}", re.ASCII)
_ENDED = {
    "revoked": "This API key has been revoked; create another with `POST /api/auth/keys`.",
    "expired": "This API key has expired; create another with `POST /api/auth/keys`.",
    "disabled": "The account of this API key is disabled; ask an operator of this server.",
}


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that has just been made: the only time that `secret`, the key itself, is there to be shown."""

    row: ApiKey
    secret: str = field(repr=False)


def page(user_id: UUID, *, after: tuple[UUID] | None = None, limit: int) -> Sequence[ApiKey]:
    """A page, newest first, and one more where there is one; revoked and expired keys are among them."""
    with statements() as session:
        return sql.page(session, user_id, after=after[0] if after else None, limit=limit + 1)


def create(caller: Identity, *, name: str, scopes: Iterable[KeyScope], expires_in_days: int | None = None) -> NewKey:
    """A new key of the caller's; without `expires_in_days` it lasts until it is revoked.

    Raises `NotAllowed` where the scope admin is asked for by somebody who is no admin.
    """
    wanted = set(scopes)
    if KeyScope.ADMIN in wanted and caller.role != UserRole.ADMIN:
        raise NotAllowed("Only an admin may create a key with the scope `admin`.")
    key_id = new_id()
    ids = base64.urlsafe_b64encode(key_id.bytes + caller.user_id.bytes).rstrip(b"=").decode()
    secret = f"{MARK}{ids}_{secrets.token_urlsafe(32)}"
    values = {
        "id": key_id,
        "name": name,
        "prefix": secret[:SHOWN],
        "key_hash": _hash(secret),
        "scopes": [scope for scope in KeyScope if scope in wanted],
        "expires_at": datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days else None,
    }
    with statements() as session:
        return NewKey(sql.add(session, caller.user_id, values), secret)


def revoke(user_id: UUID, key_id: UUID) -> None:
    """End a key at once; to end one twice is no error. Raises `NotFound`."""
    with statements() as session:
        found = sql.revoke(session, user_id, key_id)
    if found is None:
        raise NotFound("There is no such API key.")


def read(sent: str) -> Identity:
    """The caller that a sent key names, which nothing has verified yet.

    Raises `NotAuthenticated` for what no key of this server looks like.
    """
    form = _FORM.fullmatch(sent)
    if form is None:
        raise NotAuthenticated("This is not a whole API key: send it as it was shown when it was created.")
    ids = base64.urlsafe_b64decode(form[1] + "=")
    return Identity(UUID(bytes=ids[16:]), key=PresentedKey(UUID(bytes=ids[:16]), _hash(sent)))


def identify(identity: Identity, scope: KeyScope | None) -> Identity:
    """`identity` with its role, in one statement. Raises as `verify` does."""
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return verify(connection, identity, scope)


def verify(connection: Connection, identity: Identity, scope: KeyScope | None) -> Identity:
    """`identity` with its role, if its key is what was given out, has not ended, and has the scope.

    Raises `NotAuthenticated`, which says whether it was revoked or expired, and `NotAllowed`, which names the scope;
    where `scope` is None, a key opens nothing.
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
        raise NotAuthenticated("There is no such API key.")
    if row.ended is not None:
        raise NotAuthenticated(_ENDED[row.ended])
    if scope is None:
        raise NotAllowed("API keys do not open this; log in with `POST /api/auth/login` and use the access token.")
    if not row.allowed:
        raise NotAllowed(f"This API key lacks the scope `{scope}`; create one that has it with `POST /api/auth/keys`.")
    return replace(identity, role=row.role)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
