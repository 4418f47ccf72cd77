"""Users: creation, lookup, roles, disabling and ending sessions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from app.container import services
from app.database import autocommit, current_engine, violated_constraint
from app.enums import UserRole, UserStatus
from app.errors import Conflict, EmailTaken, NotFound
from app.ids import new_id
from app.repositories import erasure, sessions, users
from app.repositories import user_admin as sql
from app.text import address_key


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSummary:
    """A user."""

    id: UUID
    email: str
    name: str
    role: str
    status: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDetails(UserSummary):
    """A user with counts: live sessions and API keys, conversations, messages, and conversations under a legal hold."""

    sessions: int
    api_keys: int
    conversations: int
    messages: int
    held: int
    last_active_at: datetime | None


def not_found() -> NotFound:
    """Return the error for an unknown user."""
    return NotFound("There is no such account.")


def find_id(id_or_email: str) -> UUID:
    """Return the id of the user with this id or email address. Raises `NotFound`."""
    try:
        user_id = UUID(id_or_email)
    except ValueError:
        user_id = None
    with autocommit() as connection:
        if user_id:
            row = sql.KNOWN.one(connection, {"user_id": user_id})
        else:
            row = sql.ID_OF.one(connection, {"email": id_or_email, "email_key": address_key(id_or_email)})
    if row is None:
        raise NotFound(f"There is no account of {id_or_email}; `flask ops user list` lists all accounts.")
    return UUID(str(row.id))


def get(*, user_id: UUID) -> UserDetails:
    """Return the user. Raises `NotFound`."""
    with autocommit() as connection:
        row = sql.FIND.one(connection, {"user_id": user_id})
    if row is None:
        raise not_found()
    return UserDetails(**{**row._mapping, "messages": int(row.messages)})


def list_users(
    *,
    email: str | None = None,
    role: str | None = None,
    status: str | None = None,
    after: UUID | None = None,
    limit: int = 20,
) -> Sequence[UserSummary]:
    """Return up to `limit` users, newest first, behind the user `after`, optionally filtered."""
    parameters = {
        "email": email,
        "email_key": address_key(email) if email is not None else None,
        "role": role,
        "status": status,
        "after": after,
        "limit": limit,
    }
    with autocommit() as connection:
        return [UserSummary(**row._mapping) for row in sql.PAGE.all(connection, parameters)]


def create(*, email: str, name: str, password: str, role: UserRole = UserRole.USER) -> UserSummary:
    """Create a user. Raises `EmailTaken`, `Overloaded`, and `InvalidInput` for a password that is not allowed."""
    hashed = services().passwords.hash(password)
    parameters = {
        "user_id": new_id(),
        "email": email,
        "email_key": address_key(email),
        "name": name,
        "password_hash": hashed,
        "role": role,
    }
    try:
        with autocommit() as connection:
            return _summary(sql.INSERT.one(connection, parameters))
    except IntegrityError as error:
        if violated_constraint(error) not in users.EMAIL_INDEXES:
            raise
        raise EmailTaken("An account with this email address exists already.") from None


def disable(*, user_id: UUID) -> UserSummary:
    """Disable a user: end their sessions, reject their API keys and cancel running turns. The data stays.

    Raises `NotFound`.
    """
    with current_engine().begin() as connection:
        # Lock the user's row first, as a concurrent login does that is creating a session.
        changed = _summary(sql.SET_STATUS.one(connection, {"user_id": user_id, "status": UserStatus.DISABLED}))
        sessions.REVOKE_ALL.all(connection, {"user_id": user_id})
        sql.CANCEL_TURNS.all(connection, {"user_id": user_id})
    return changed


def enable(*, user_id: UUID) -> UserSummary:
    """Enable a disabled user. They have to log in again.

    Raises `NotFound`, and `Conflict` if the user has requested the erasure, which is still to be done.
    """
    with current_engine().begin() as connection:
        erasure.LOCK_USER.one(connection, {"user_id": user_id})  # as the request does
        progress = erasure.PROGRESS.one(connection, {"user_id": user_id})
        if progress is not None and progress.receipt_id is not None:
            raise Conflict("The user has deleted this account, and its data is being erased, so it stays disabled.")
        return _summary(sql.SET_STATUS.one(connection, {"user_id": user_id, "status": UserStatus.ACTIVE}))


def set_role(*, user_id: UUID, role: UserRole) -> UserSummary:
    """Set the role of a user, with effect from the next request. Raises `NotFound`."""
    with autocommit() as connection:
        return _summary(sql.SET_ROLE.one(connection, {"user_id": user_id, "role": role}))


def end_sessions(*, user_id: UUID) -> UserSummary:
    """End all sessions of a user; API keys stay valid. Raises `NotFound`."""
    user = get(user_id=user_id)
    with current_engine().begin() as connection:
        sessions.REVOKE_ALL.all(connection, {"user_id": user_id})
    return user


def _summary(row: Row[Any] | None) -> UserSummary:
    if row is None:
        raise not_found()
    return UserSummary(**row._mapping)
