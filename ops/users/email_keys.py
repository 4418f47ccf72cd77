"""The normal forms of email addresses: which rows lack the right one, and the job that fills them.

A row of a release before normal forms has none; rows can have an old one if the rule has changed. If two accounts
share a normal form, one of them has its address as it is spelled instead, and can log in with that spelling only.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from app.bounds import EMAIL_LIMIT
from app.database import autocommit, current_engine
from app.repositories import email_keys as sql
from app.text import address_key
from ops.runs.batches import TimeBudget

PAGE = 2000  # users
SECONDS = 540.0  # of the job's time limit of ten minutes


class KeyState(enum.Enum):
    """The state of a user's normal form that is not the one of the address."""

    MISSING = "missing"
    OUTDATED = "outdated"
    SHARED = "shared"  # another account has the normal form


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """A user whose normal form should be `key`."""

    user_id: UUID
    email: str
    key: str
    state: KeyState


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailKeysReport:
    """Numbers of users: `filled` got their normal form, `shared` have one that another account has.

    `failed` are taken by the next run, because another request changed the same address. `more` is true if time ran
    out.
    """

    filled: int = 0
    shared: int = 0
    failed: int = 0
    more: bool = False
    dry_run: bool = False


def key_problems(connection: Connection) -> Iterator[list[KeyProblem]]:
    """Yield the problems of all users, page by page."""
    after: UUID | None = None
    while rows := sql.PAGE.all(connection, {"after": after, "limit": PAGE}):
        after = rows[-1].id
        wrong = [(row, key) for row in rows if row.email_key != (key := expected_key(row.email))]
        spelled = [key for row, key in wrong if row.email_key == row.email]
        owned = {row.email_key for row in sql.OWNED.all(connection, {"keys": spelled})} if spelled else set()
        yield [KeyProblem(row.id, row.email, key, _state(row.email, row.email_key, key in owned)) for row, key in wrong]


def expected_key(email: str) -> str:
    """Return the normal form that the user of an address should have: the address itself if it has none."""
    key = address_key(email)
    return key if 0 < len(key) <= EMAIL_LIMIT else email


def fill_email_keys(*, seconds: float = SECONDS, dry_run: bool = False) -> EmailKeysReport:
    """Give each user the normal form of the address, or the address as it is spelled if another account has it."""
    budget = TimeBudget(seconds)
    filled = shared = failed = 0
    with autocommit() as connection:
        for problems in key_problems(connection):
            for problem in problems:
                if problem.state is KeyState.SHARED:
                    shared += 1
                elif dry_run:
                    filled += 1
                else:
                    got = _assign(problem)
                    filled, shared, failed = filled + (got is True), shared + (got is False), failed + (got is None)
            if budget.expired:
                return EmailKeysReport(filled=filled, shared=shared, failed=failed, more=True, dry_run=dry_run)
    return EmailKeysReport(filled=filled, shared=shared, failed=failed, dry_run=dry_run)


def _state(email: str, stored: str | None, is_owned: bool) -> KeyState:
    if stored is None:
        return KeyState.MISSING
    return KeyState.SHARED if stored == email and is_owned else KeyState.OUTDATED


def _assign(problem: KeyProblem) -> bool | None:
    """Return whether the user got the normal form; None if another request changed the same address."""
    parameters = {"user_id": problem.user_id, "email": problem.email, "key": problem.key}
    try:
        with current_engine().begin() as connection:
            sql.RELEASE.all(connection, parameters)
            row = sql.ASSIGN.one(connection, parameters)
    except IntegrityError:
        return None
    return None if row is None else bool(row.email_key == problem.key)
