"""Changes of the own account that ask for the password again: the password, the email address, the deletion.

A session can be open on a stolen device, so it is not enough for these. No database connection is
held while a password is hashed or verified.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from app.database import autocommit, current_engine, violated_constraint
from app.errors import EmailTaken, InvalidInput, NotAuthenticated, UserHeld
from app.ids import new_id
from app.jobs import enqueue
from app.repositories import erasure, password_resets, user_admin
from app.repositories import users as sql
from app.services import sessions
from app.services.accounts import Account, account_of, address_of
from app.services.attempts import AttemptLimits
from app.services.audit import record_own_action
from app.services.passwords import PasswordHasher
from app.services.sessions import Client

ERASURE_JOB = "users.erase"
ERASURE_REASON = "requested by the user"

_CHANGED = "The password was changed by another request."


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """The caller's client, and the services of this process that check a password."""

    client: Client
    passwords: PasswordHasher
    attempts: AttemptLimits


def change_password(user_id: UUID, current_password: str, new_password: str, check: PasswordCheck) -> None:
    """Change the password, revoke all sessions of the user, the caller's included, and end all reset tokens.

    Raises `InvalidInput` if `current_password` is wrong or `new_password` may not be chosen, `NotAuthenticated` if the
    user has just been deleted, `TooManyAttempts` and `Overloaded`.
    """
    row = _checked_user(user_id, current_password, check, field="current_password")
    with check.passwords.turn(check.client.address, str(user_id)):
        password_hash = check.passwords.hash(new_password)
    parameters = {"user_id": user_id, "seen_hash": row.password_hash, "password_hash": password_hash}
    with current_engine().begin() as connection:
        # Lock the user's row first: a concurrent login holds it, and its session must be visible here.
        if sql.SET_PASSWORD.one(connection, parameters) is None:
            raise InvalidInput(fields={"current_password": [_CHANGED]})
        _end_credentials(connection, user_id)
        record_own_action(connection, user_id, "user.change_password", check.client)


def change_email(user_id: UUID, email: str, password: str, check: PasswordCheck) -> Account:
    """Change the email address, and end reset tokens, which belong to the old one. Sessions stay.

    Raises `EmailTaken` if another account has the address, in any spelling, `InvalidInput` if the password is wrong,
    `NotAuthenticated` if the user has just been deleted, `TooManyAttempts` and `Overloaded`.
    """
    check.attempts.count_registration(check.client.address)  # each try reveals whether an address has an account
    row = _checked_user(user_id, password, check)
    parameters = {**address_of(email), "user_id": user_id, "seen_hash": row.password_hash}
    try:
        with current_engine().begin() as connection:
            changed = sql.SET_EMAIL.one(connection, parameters)
            if changed is None:
                raise InvalidInput(fields={"password": [_CHANGED]})
            password_resets.DELETE_ALL.all(connection, {"user_id": user_id})
            record_own_action(connection, user_id, "user.change_email", check.client)
            return account_of(changed)
    except IntegrityError as error:
        if violated_constraint(error) not in sql.EMAIL_INDEXES:
            raise
        raise EmailTaken("Another account has this email address.") from None


def request_deletion(user_id: UUID, password: str, check: PasswordCheck) -> UUID:
    """Disable the account at once and request its erasure; return the id that the receipt will have.

    All sessions, API keys and running turns end. Raises `UserHeld`, `InvalidInput` if the password is wrong,
    `NotAuthenticated` if the user has just been deleted, `TooManyAttempts` and `Overloaded`.
    """
    row = _checked_user(user_id, password, check)
    with current_engine().begin() as connection:
        if sql.DISABLE.one(connection, {"user_id": user_id, "seen_hash": row.password_hash}) is None:
            raise InvalidInput(fields={"password": [_CHANGED]})
        if user_admin.HELD.one(connection, {"user_id": user_id, "limit": 1}) is not None:
            raise UserHeld(
                "A legal hold keeps conversations of this account, so it cannot be deleted; ask an operator."
            )
        _end_credentials(connection, user_id)
        user_admin.CANCEL_TURNS.all(connection, {"user_id": user_id})
        requested = erasure.REQUEST.one(connection, {"user_id": user_id, "receipt_id": new_id()})
        assert requested is not None  # noqa: S101  # it inserts or updates
        record_own_action(connection, user_id, "user.request_erasure", check.client)
    enqueue(ERASURE_JOB, user_id=str(user_id), reason=ERASURE_REASON, by=str(user_id))
    return UUID(str(requested.receipt_id))


def _checked_user(user_id: UUID, password: str, check: PasswordCheck, field: str = "password") -> Row[Any]:
    """Return the user's row if `password` is right. Raises `InvalidInput` for `field` if not."""
    with autocommit() as connection:
        row = sql.GET.one(connection, {"user_id": user_id})
    if row is None:
        raise NotAuthenticated
    address, account = check.client.address, str(user_id)
    with (
        check.attempts.password_check(account, address, lambda: False) as attempt,
        check.passwords.turn(address, account),
    ):
        attempt.failed = not check.passwords.verify(password, row.password_hash)
    if attempt.failed:
        raise InvalidInput(fields={field: ["This is not your password."]})
    return row


def _end_credentials(connection: Connection, user_id: UUID) -> None:
    sessions.revoke_all(connection, user_id)
    password_resets.DELETE_ALL.all(connection, {"user_id": user_id})
