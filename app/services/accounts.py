"""Registration, login, and the own account with its name; `account_changes` has the changes that require the password.

No database connection is held while a password is hashed or verified, which takes a quarter of a second or longer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from app.database import autocommit, current_engine, violated_constraint
from app.enums import UserStatus
from app.errors import EmailTaken, NotAuthenticated, PermissionDenied, TooManyAttempts
from app.ids import new_id
from app.metrics.credentials import LoginOutcome, record_login
from app.repositories import users as sql
from app.services import sessions
from app.services.addresses import UNKNOWN, network_of
from app.services.attempts import AttemptLimits
from app.services.passwords import PasswordHasher
from app.services.sessions import Client, Tokens
from app.text import address_key

REGISTRATIONS = ""  # in place of an account, so that the registrations from an address wait for each other
# The same sentence for both, so that it does not reveal which email addresses have an account.
_WRONG = "The email address or the password is wrong."
# The outcome of a login that raised; of all other errors it is "failed".
_OUTCOMES: dict[type[Exception], LoginOutcome] = {
    NotAuthenticated: "wrong",
    PermissionDenied: "disabled",
    TooManyAttempts: "limited",
}


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the API shows it to the user."""

    id: UUID
    email: str
    name: str
    role: str
    created_at: datetime
    updated_at: datetime


def register(
    email: str, password: str, name: str, client: Client, *, passwords: PasswordHasher, attempts: AttemptLimits
) -> tuple[Account, Tokens]:
    """Create a user and the first session.

    Raises `EmailTaken` if the address has an account, in any spelling, `InvalidInput` for a password that may not be
    chosen, `TooManyAttempts` and `Overloaded`. Nothing is stored then.
    """
    attempts.count_registration(client.address)
    with passwords.turn(client.address, REGISTRATIONS):
        password_hash = passwords.hash(password)
    parameters = {**address_of(email), "user_id": new_id(), "name": name, "password_hash": password_hash}
    try:
        with current_engine().begin() as connection:
            account = account_of(sql.INSERT.one(connection, parameters))
            return account, sessions.open_session(connection, account.id, password_hash, client)
    except IntegrityError as error:
        if violated_constraint(error) not in sql.EMAIL_INDEXES:
            raise
        raise EmailTaken from None


def login(
    email: str, password: str, client: Client, *, passwords: PasswordHasher, attempts: AttemptLimits
) -> tuple[Account, Tokens]:
    """Open a session.

    Raises `NotAuthenticated` for an unknown address and for a wrong password, after the same work; `TooManyAttempts`,
    also for both; `PermissionDenied` for the right password of a disabled user; `Overloaded`.
    """
    try:
        opened = _login(email, password, client, passwords, attempts)
    except Exception as error:
        record_login(_OUTCOMES.get(type(error), "failed"))
        raise
    record_login("succeeded")
    return opened


def get(user_id: UUID) -> Account:
    """Return the account. Raises `NotAuthenticated` if the user has just been deleted."""
    with autocommit() as connection:
        return account_of(sql.GET.one(connection, {"user_id": user_id}))


def rename(user_id: UUID, name: str) -> Account:
    """Change the name, and return the account. Raises `NotAuthenticated` if the user has just been deleted."""
    with autocommit() as connection:
        return account_of(sql.RENAME.one(connection, {"user_id": user_id, "name": name}))


def _login(
    email: str, password: str, client: Client, passwords: PasswordHasher, attempts: AttemptLimits
) -> tuple[Account, Tokens]:
    with attempts.password_check(email, client.address, lambda: _is_known_address(email, client.address)) as attempt:
        with autocommit() as connection:
            row = sql.BY_EMAIL.one(connection, address_of(email))
        with passwords.turn(client.address, address_key(email)):
            right = passwords.verify(password, row.password_hash if row else None)
        attempt.failed = not right
    if row is None or not right:
        raise NotAuthenticated(_WRONG)
    if row.status != UserStatus.ACTIVE:
        raise PermissionDenied("This account is disabled; ask an operator of this server.")
    with autocommit() as connection:
        return account_of(row), sessions.open_session(connection, row.id, row.password_hash, client)


def _is_known_address(email: str, address: str | None) -> bool:
    """Return whether the owner of this account has logged in from this network before, as far as it is stored."""
    with autocommit() as connection:
        sessions_before = sql.ADDRESSES.all(connection, address_of(email))
    network = network_of(address)
    return network != UNKNOWN and any(network_of(row.address) == network for row in sessions_before)


def address_of(email: str) -> dict[str, str]:
    """Return the parameters of statements for a typed address."""
    return {"email": email, "email_key": address_key(email)}


def account_of(row: Row[Any] | None) -> Account:
    """Return the account of a row. Raises `NotAuthenticated` for None: the user has just been deleted."""
    if row is None:
        raise NotAuthenticated
    return Account(row.id, row.email, row.name, row.role, row.created_at, row.updated_at)
