"""To-do items of users: their management, and the terms by which they are found."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func

from app.config import Chat
from app.database import autocommit
from app.errors import Conflict, NotAuthenticated, NotFound
from app.models import Todo
from app.repositories import todos
from app.services.search_documents import text_tsvector
from app.services.search_query import parse
from app.services.stored_bytes import check_limit
from app.services.transactions import autocommit_session, transaction

TITLE_LIMIT, DESCRIPTION_LIMIT = 200, 10_000  # characters
_BATCH = 50  # items that one statement of the sweep reads and writes


@dataclass(frozen=True, slots=True)
class TodoLimits:
    """Limits of a user: `max_todos` items, and `max_bytes`, which is USER_MAX_BYTES; 0 disables a limit."""

    max_todos: int = 0
    max_bytes: int = 0

    @classmethod
    def of(cls, settings: Chat) -> "TodoLimits":
        """Return the limits of the settings."""
        return cls(settings.user_max_todos, settings.user_max_bytes)


def _missing() -> NotFound:
    return NotFound("There is no such task.")


def page(
    user_id: UUID,
    *,
    completed: bool | None = None,
    q: str | None = None,
    after: UUID | None = None,
    limit: int,
) -> Sequence[Todo]:
    """Return a page, newest first, and one item more if there is a next page. `q` is a query of docs/search.md."""
    matching = None
    if q is not None:
        alternatives = parse(q).alternatives
        matching = todos.matching([[(each.tsquery, each.excluded) for each in clauses] for clauses in alternatives])
    with autocommit_session() as session:
        return todos.page(session, user_id, completed=completed, matching=matching, after=after, limit=limit + 1)


def create(
    user_id: UUID,
    *,
    title: str,
    description: str | None = None,
    call_key: str | None = None,
    limits: TodoLimits | None = None,
) -> Todo:
    """Create an item. If a call with the same `call_key` has created one, return that as it is now.

    Locks the user's row, so that concurrent calls cannot exceed the maximum or create an item twice. Raises
    `StorageLimitReached`, and `Conflict` if the user has the maximum.
    """
    limits = limits or TodoLimits()
    document = text_tsvector(title, description)
    with transaction() as session:
        if todos.lock_owner(session, user_id) is None:
            raise NotAuthenticated  # just deleted
        if call_key is not None:
            created = todos.by_call(session, user_id, call_key)
            if created is not None:
                return created
        check_limit(session.connection(), user_id, limits.max_bytes)
        if limits.max_todos and todos.count(session, user_id) >= limits.max_todos:
            raise Conflict(f"You have {limits.max_todos} tasks, which is the maximum; delete some of them.")
        values = {"title": title, "description": description, "call_key": call_key, "search_document": document}
        return todos.add(session, user_id, values)


def get(user_id: UUID, todo_id: UUID) -> Todo:
    """Return an item. Raises `NotFound`."""
    with autocommit_session() as session:
        todo = todos.get(session, user_id, todo_id)
    if todo is None:
        raise _missing()
    return todo


def change(user_id: UUID, todo_id: UUID, **values: Any) -> Todo:
    """Change `title`, `description` or `completed`. Raises `NotFound`."""
    if not values:
        return get(user_id, todo_id)
    with transaction() as session:
        current = todos.lock(session, user_id, todo_id)
        if current is None:
            raise _missing()
        texts = {"title": current.title, "description": current.description, **values}
        if values.keys() & {"title", "description"}:
            values["search_document"] = text_tsvector(texts["title"], texts["description"])
        if values.get("completed", current.completed) != current.completed:
            values["completed_at"] = func.now() if values["completed"] else None
        changed = todos.change(session, user_id, todo_id, values)
    if changed is None:
        raise _missing()
    return changed


def complete(user_id: UUID, todo_id: UUID) -> Todo:
    """Set an item completed; repeating it changes nothing. Raises `NotFound`."""
    with autocommit_session() as session:
        completed = todos.complete(session, user_id, todo_id)
    if completed is None:
        raise _missing()
    return completed


def delete(user_id: UUID, todo_id: UUID) -> None:
    """Delete an item. Raises `NotFound`."""
    with autocommit_session() as session:
        removed = todos.remove(session, user_id, todo_id)
    if removed is None:
        raise _missing()


def index_stale(*, limit: int = 10_000, seconds: float = 60) -> int:
    """Write the terms of items that older word rules read; return their number, at most `limit`.

    Takes about `seconds`. Cutting the texts holds no connection.
    """
    deadline, written = time.monotonic() + seconds, 0
    while written < limit and time.monotonic() < deadline:
        with autocommit() as connection:
            rows = todos.STALE.all(connection, {"limit": min(_BATCH, limit - written)})
        if not rows:
            break
        documents = [text_tsvector(row.title, row.description) for row in rows]
        parameters = {
            "user_ids": [row.user_id for row in rows],
            "ids": [row.id for row in rows],
            "updated": [row.updated_at for row in rows],
            "documents": documents,
        }
        with autocommit() as connection:
            updated = todos.WRITE_DOCUMENTS.run(connection, parameters)
        if not updated:
            break  # all of them are being changed; the next sweep finds those that stay
        written += updated
    return written
