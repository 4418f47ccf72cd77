"""API keys for tests, and the statements that a block runs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import Engine, event, text

from app.enums import KeyScope
from app.services import api_keys
from app.services.identity import Identity
from tests.api.responses import bearer
from tests.factories import LoggedInUser

ALL = tuple(KeyScope)


@dataclass(frozen=True)
class Key:
    """A key created by the API's service."""

    id: UUID
    secret: str
    headers: dict[str, str]


def make_key(flask_app: Flask, account: LoggedInUser, scopes: Iterable[KeyScope | str] = ALL, **values: Any) -> Key:
    """Create a key of `account`, which may have the scope admin with any role."""
    owner = Identity(account.id, account.session_id, role="admin")
    with flask_app.app_context():
        created = api_keys.create(owner, name="for tests", scopes=[KeyScope(scope) for scope in scopes], **values)
    return Key(created.row.id, created.secret, bearer(created.secret))


def change_key(engine: Engine, key: Key, assignments: str) -> None:
    """Set columns of the key, for example to let it expire."""
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE api_keys SET {assignments} WHERE id = :k"), {"k": key.id})


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[str]]:
    """Yield the names of the statements that run on `engine` during the block, in any thread."""
    seen: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # The name; the request id may follow it. The tests' own statements have no name.
        seen.extend(statement.partition("/* ")[2].split()[:1])

    event.listen(engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", record)
