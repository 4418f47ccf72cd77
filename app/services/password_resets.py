"""Reset of a lost password by a token, which an operator hands over or which is mailed to the stored address.

    prr_<43 characters: the token's id and its owner's>_<43 characters: 32 random bytes>

A token is valid for some minutes and once; the row holds its SHA-256. A request for a mail does the same work and has
the same response whether or not the address has an account: the job that sends the mail finds out.
"""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from app.database import autocommit, current_engine
from app.errors import Conflict, InvalidInput
from app.ids import new_id
from app.jobs import enqueue
from app.repositories import password_resets as sql
from app.repositories import users
from app.services import sessions
from app.services.accounts import address_of
from app.services.attempts import AttemptLimits
from app.services.audit import record_own_action
from app.services.passwords import PasswordHasher
from app.services.sessions import Client

MARK = "prr_"  # the prefix by which log filters recognize a token
MAIL_JOB = "users.mail_password_reset"

_FORM = re.compile(rf"{MARK}([\w-]{{43}})_[\w-]{{43}}", re.ASCII)
_INVALID = "This token is not valid: it was used, has expired or was replaced, or is incomplete. Ask for another one."


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetToken:
    """A new token of a user, which is not stored."""

    user_id: UUID
    token: str = field(repr=False)
    expires_at: datetime


class _Presented(NamedTuple):
    user_id: UUID
    reset_id: UUID
    token_hash: bytes


def issue(connection: Connection, user_id: UUID, *, minutes: int) -> ResetToken:
    """Create a token that is valid for `minutes`. Earlier ones stay valid. Does not commit.

    Raises `Conflict` for a disabled user.
    """
    reset_id = new_id()
    ids = base64.urlsafe_b64encode(reset_id.bytes + user_id.bytes).rstrip(b"=").decode()
    token = f"{MARK}{ids}_{secrets.token_urlsafe(32)}"
    parameters = {"user_id": user_id, "reset_id": reset_id, "token_hash": _hash(token), "seconds": minutes * 60}
    row = sql.ADD.one(connection, parameters)
    if row is None:
        raise Conflict("This account is disabled, so its password cannot be reset.")
    return ResetToken(user_id=user_id, token=token, expires_at=row.expires_at)


def request_mail(email: str) -> None:
    """Request that a token is mailed to the stored address of the account, if there is one.

    A job is enqueued in any case, with an id that no user has if there is no account.
    """
    with autocommit() as connection:
        row = users.BY_EMAIL.one(connection, address_of(email))
    enqueue(MAIL_JOB, user_id=str(row.id if row is not None else new_id()))


def reset(token: str, new_password: str, client: Client, *, passwords: PasswordHasher, attempts: AttemptLimits) -> None:
    """Set the password, end all sessions and all reset tokens of the user. The token is used then; API keys stay valid.

    The user can log in at once, however many wrong passwords came from the same client before.

    Raises `InvalidInput` for an invalid token, and for a password that may not be chosen; `Overloaded`. Nothing is
    changed then, and a valid token stays valid.
    """
    presented = _parse(token)
    with autocommit() as connection:
        if sql.FIND.one(connection, presented._asdict()) is None:  # before the hash, which takes a quarter of a second
            raise _invalid()
    with passwords.turn(client.address, str(presented.user_id)):
        password_hash = passwords.hash(new_password)
    parameters = {"user_id": presented.user_id, "password_hash": password_hash}
    with current_engine().begin() as connection:
        # Lock the user's row first, as a login and an erasure do.
        user = users.LOCK_ACTIVE.one(connection, parameters)
        if user is None or sql.USE.one(connection, presented._asdict()) is None:
            raise _invalid()
        users.REPLACE_PASSWORD.one(connection, parameters)
        sessions.revoke_all(connection, presented.user_id)
        sql.DELETE_ALL.all(connection, parameters)
        record_own_action(connection, presented.user_id, "user.reset_password", client)
    for account in (user.email, str(presented.user_id)):
        attempts.clear_failures(account, client.address)


def _parse(token: str) -> _Presented:
    form = _FORM.fullmatch(token)
    if form is None:
        raise _invalid()
    ids = base64.urlsafe_b64decode(form[1] + "=")
    return _Presented(UUID(bytes=ids[16:]), UUID(bytes=ids[:16]), _hash(token))


def _invalid() -> InvalidInput:
    return InvalidInput(fields={"token": [_INVALID]})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
