"""Accounts: opening one, logging in, and changing one's own name and password.

No connection is held while a password is hashed or verified: that takes a quarter of a second and may wait in a queue.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from app.errors import EmailTaken, InvalidInput, NotAllowed, NotAuthenticated
from app.extensions import db
from app.models import UserStatus
from app.models.columns import new_id
from app.repositories import users as sql
from app.services import sessions
from app.services.addresses import UNKNOWN, network_of
from app.services.container import services
from app.services.sessions import Client, Tokens, autocommit

# One sentence for both: which of the two it was is nobody's business.
_WRONG = "The email address or the password is wrong."


@dataclass(frozen=True, slots=True)
class Account:
    """What people see of their own account."""

    id: UUID
    email: str
    name: str
    role: str
    created_at: datetime
    updated_at: datetime


def register(email: str, password: str, name: str, client: Client) -> tuple[Account, Tokens]:
    """Open an account and its first session.

    Raises `EmailTaken` when the address has an account, in whatever spelling, `InvalidInput` for a password that may
    not be chosen, `TooManyAttempts` and `Overloaded`. Nothing is stored then.
    """
    services().attempts.registering(client.address)
    password_hash = services().passwords.hash(password)
    parameters = {"user_id": new_id(), "email": email, "name": name, "password_hash": password_hash}
    try:
        with db.engine.begin() as connection:
            account = _account(sql.INSERT.one(connection, parameters))
            return account, sessions.open_session(connection, account.id, password_hash, client)
    except IntegrityError as error:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        if constraint != sql.EMAIL_INDEX:
            raise
        raise EmailTaken from None


def login(email: str, password: str, client: Client) -> tuple[Account, Tokens]:
    """Open a session.

    Raises `NotAuthenticated`, the same way and after the same work, for an unknown address and a wrong password;
    `TooManyAttempts` likewise; `NotAllowed` for the right password of a disabled account; `Overloaded`.
    """
    with services().attempts.at(email, client.address, lambda: _familiar(email, client.address)) as attempt:
        with autocommit() as connection:
            row = sql.BY_EMAIL.one(connection, {"email": email})
        right = services().passwords.verify(password, row.password_hash if row else None)
        attempt.failed = not right
    if row is None or not right:
        raise NotAuthenticated(_WRONG)
    if row.status != UserStatus.ACTIVE:
        raise NotAllowed("This account is disabled; ask an operator of this server.")
    with autocommit() as connection:
        return _account(row), sessions.open_session(connection, row.id, row.password_hash, client)


def get(user_id: UUID) -> Account:
    """The account. Raises `NotAuthenticated` when it has just been deleted."""
    with autocommit() as connection:
        return _account(sql.GET.one(connection, {"user_id": user_id}))


def rename(user_id: UUID, name: str) -> Account:
    """Change the name, and return the account. Raises `NotAuthenticated` when it has just been deleted."""
    with autocommit() as connection:
        return _account(sql.RENAME.one(connection, {"user_id": user_id, "name": name}))


def change_password(user_id: UUID, current_password: str, new_password: str, client: Client) -> None:
    """Change the password and end all of the user's sessions, the caller's too.

    Raises `InvalidInput` when `current_password` is wrong or `new_password` may not be chosen, `NotAuthenticated` when
    the account has just been deleted, `TooManyAttempts` and `Overloaded`.
    """
    passwords = services().passwords
    with autocommit() as connection:
        row = sql.GET.one(connection, {"user_id": user_id})
    if row is None:
        raise NotAuthenticated
    with services().attempts.at(str(user_id), client.address, lambda: False) as attempt:
        attempt.failed = not passwords.verify(current_password, row.password_hash)
    if attempt.failed:
        raise InvalidInput(fields={"current_password": ["This is not your password."]})
    parameters = {"user_id": user_id, "seen_hash": row.password_hash, "password_hash": passwords.hash(new_password)}
    with db.engine.begin() as connection:
        # The user's row first: a login that is just opening a session holds it, and its session must be seen here.
        if sql.SET_PASSWORD.one(connection, parameters) is None:
            raise InvalidInput(fields={"current_password": ["The password was changed meanwhile."]})
        sessions.revoke_all(connection, user_id)


def _familiar(email: str, address: str | None) -> bool:
    """Whether the owner of this account has logged in from there before, as far as that is still known."""
    with autocommit() as connection:
        known = sql.ADDRESSES.all(connection, {"email": email})
    here = network_of(address)
    return here != UNKNOWN and any(network_of(row.address) == here for row in known)


def _account(row: Row[Any] | None) -> Account:
    if row is None:
        raise NotAuthenticated
    return Account(row.id, row.email, row.name, row.role, row.created_at, row.updated_at)
