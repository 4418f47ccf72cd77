"""Who has an account: opening, finding, disabling and promoting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError

from app.errors import EmailTaken, NotFound
from app.extensions import db
from app.models import UserRole, UserStatus
from app.models.columns import new_id
from app.repositories import accounts as sql
from app.repositories import users
from app.services import sessions
from app.services.container import services
from ops.care.batches import autocommit


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An account."""

    id: UUID
    email: str
    name: str
    role: str
    status: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonInFull(Person):
    """An account, and how much there is of it: live sessions and keys, conversations, their messages, legal holds."""

    sessions: int
    api_keys: int
    conversations: int
    messages: int
    held: int
    last_active_at: datetime | None


def missing() -> NotFound:
    """The one answer where an account is not there."""
    return NotFound("There is no such account.")


def id_of(who: str) -> UUID:
    """The account with this id or email address. Raises `NotFound`."""
    try:
        user_id = UUID(who)
    except ValueError:
        user_id = None
    with autocommit() as connection:
        row = sql.KNOWN.one(connection, {"user_id": user_id}) if user_id else sql.ID_OF.one(connection, {"email": who})
    if row is None:
        raise NotFound(f"There is no account of {who}; `flask ops user list` shows who there is.")
    return UUID(str(row.id))


def find(*, user_id: UUID) -> PersonInFull:
    """That account. Raises `NotFound`."""
    with autocommit() as connection:
        row = sql.FIND.one(connection, {"user_id": user_id})
    if row is None:
        raise missing()
    return PersonInFull(**{**row._mapping, "messages": int(row.messages)})


def page(
    *,
    email: str | None = None,
    role: str | None = None,
    status: str | None = None,
    after: UUID | None = None,
    limit: int = 20,
) -> Sequence[Person]:
    """Accounts, the newest first, up to `limit`; `after` goes on behind that one."""
    parameters = {"email": email, "role": role, "status": status, "after": after, "limit": limit}
    with autocommit() as connection:
        return [Person(**row._mapping) for row in sql.PAGE.all(connection, parameters)]


def create(*, email: str, name: str, password: str, role: UserRole = UserRole.USER) -> Person:
    """Open an account. Raises `EmailTaken`; `InvalidInput` for a password that may not be chosen; `Overloaded`."""
    hashed = services().passwords.hash(password)
    parameters = {"user_id": new_id(), "email": email, "name": name, "password_hash": hashed, "role": role}
    try:
        with autocommit() as connection:
            return _person(sql.INSERT.one(connection, parameters))
    except IntegrityError as error:
        if getattr(getattr(error.orig, "diag", None), "constraint_name", None) != users.EMAIL_INDEX:
            raise
        raise EmailTaken("An account with this email address exists already.") from None


def disable(*, user_id: UUID) -> Person:
    """Keep somebody out: sessions end at once, API keys open nothing, turns under way are cancelled; data stays.

    Raises `NotFound`.
    """
    with db.engine.begin() as connection:
        # The user's row first, as everybody locks: a login that is just opening a session has it.
        changed = _person(sql.SET_STATUS.one(connection, {"user_id": user_id, "status": UserStatus.DISABLED}))
        sessions.revoke_all(connection, user_id)
        sql.CANCEL_TURNS.all(connection, {"user_id": user_id})
    return changed


def enable(*, user_id: UUID) -> Person:
    """Let somebody in again, who has to log in anew. Raises `NotFound`."""
    with autocommit() as connection:
        return _person(sql.SET_STATUS.one(connection, {"user_id": user_id, "status": UserStatus.ACTIVE}))


def set_role(*, user_id: UUID, role: UserRole) -> Person:
    """What somebody may do; holds from the next request on. Raises `NotFound`."""
    with autocommit() as connection:
        return _person(sql.SET_ROLE.one(connection, {"user_id": user_id, "role": role}))


def end_sessions(*, user_id: UUID) -> Person:
    """End every session; API keys stay. Raises `NotFound`."""
    found = find(user_id=user_id)
    with db.engine.begin() as connection:
        sessions.revoke_all(connection, user_id)
    return found


def _person(row: Row[Any] | None) -> Person:
    if row is None:
        raise missing()
    return Person(**row._mapping)
