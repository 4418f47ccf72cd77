"""API keys that the tests of keys share, and what their answers must be."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import Engine, event, text
from werkzeug.test import TestResponse

from app.models import KeyScope
from app.services import api_keys
from app.services.identity import Identity
from tests.factories import Account

ALL = tuple(KeyScope)


@dataclass(frozen=True)
class Key:
    """One that was made as the API makes it."""

    id: UUID
    secret: str
    headers: dict[str, str]


def make_key(flask_app: Flask, account: Account, scopes: Iterable[KeyScope | str] = ALL, **values: Any) -> Key:
    """A key of `account`'s, which may have the scope admin whatever its role."""
    owner = Identity(account.id, account.session_id, role="admin")
    with flask_app.app_context():
        made = api_keys.create(owner, name="for tests", scopes=[KeyScope(scope) for scope in scopes], **values)
    return Key(made.row.id, made.secret, bearer(made.secret))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def problem(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The problem that `response` is; asserts its status and code."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json"), response.text
    assert response.json is not None
    assert response.json["code"] == code
    return dict(response.json)


def refused(response: TestResponse, words: str) -> None:
    """It must be a 401 that says these words."""
    assert words in problem(response, 401, "not_authenticated")["detail"]
    assert response.headers["WWW-Authenticate"] == "Bearer"


def change_key(engine: Engine, key: Key, assignments: str) -> None:
    """Set columns of the key, as the clock would have."""
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE api_keys SET {assignments} WHERE id = :k"), {"k": key.id})


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[str]]:
    """The names of the statements that run on `engine` meanwhile, in any thread."""
    seen: list[str] = []

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # The name, which the request's id may follow.
        seen.append(statement.partition("/* ")[2].split()[0])

    event.listen(engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", listen)
