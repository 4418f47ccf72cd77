"""SQL of to-do items."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    cast,
    delete,
    false,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session

from app.models import Todo, User
from app.repositories.search import Alternative
from app.repositories.search_state import RULES
from app.repositories.statement import Statement

# Items whose terms older word rules read.
STALE = Statement(
    "tasks.stale",
    f"""
SELECT user_id, id, title, description, updated_at FROM tasks WHERE search_rules < {RULES}
 ORDER BY search_rules LIMIT %(limit)s""",
    index="ix_tasks_search_rules",
)

# An item that has changed since it was read is left to the change or to the next sweep.
WRITE_DOCUMENTS = Statement(
    "tasks.write_documents",
    f"""
UPDATE tasks SET search_document = written.document, search_rules = {RULES}
  FROM unnest(%(user_ids)s::uuid[], %(ids)s::uuid[], %(updated)s::timestamptz[], %(documents)s::tsvector[])
       AS written(user_id, id, updated_at, document)
 WHERE tasks.user_id = written.user_id AND tasks.id = written.id AND tasks.updated_at = written.updated_at
   AND tasks.search_rules < {RULES}""",
)


def page(
    session: Session,
    user_id: UUID,
    *,
    completed: bool | None,
    matching: ColumnElement[bool] | None,
    after: UUID | None,
    limit: int,
) -> Sequence[Todo]:
    """Return up to `limit` items, newest first, after the one with that id; None is no filter."""
    statement = select(Todo).prefix_with("/* tasks.page */").where(Todo.user_id == user_id)
    if completed is not None:
        statement = statement.where(Todo.completed == completed)
    if matching is not None:
        statement = statement.where(matching)
    if after is not None:
        statement = statement.where(Todo.id < after)
    return session.scalars(statement.order_by(Todo.id.desc()).limit(limit)).all()


def matching(alternatives: Sequence[Alternative]) -> ColumnElement[bool]:
    """Return the condition that one of the alternatives holds for an item."""
    return or_(false(), *(and_(true(), *(_holds(*clause) for clause in clauses)) for clauses in alternatives))


def _holds(tsquery: str, excluded: bool) -> ColumnElement[bool]:
    found: ColumnElement[bool] = Todo.search_document.op("@@", is_comparison=True)(cast(literal(tsquery), TSQUERY))
    return not_(found) if excluded else found


def get(session: Session, user_id: UUID, todo_id: UUID) -> Todo | None:
    """Return an item of the user, or None."""
    return session.scalars(
        select(Todo).prefix_with("/* tasks.get */").where(Todo.user_id == user_id, Todo.id == todo_id)
    ).one_or_none()


def by_call(session: Session, user_id: UUID, call_key: str) -> Todo | None:
    """Return the item that the call with this key created, or None."""
    return session.scalars(
        select(Todo).prefix_with("/* tasks.by_call */").where(Todo.user_id == user_id, Todo.call_key == call_key)
    ).one_or_none()


def lock_owner(session: Session, user_id: UUID) -> UUID | None:
    """Lock the user's row until the transaction ends, so that the user's items are created one after the other."""
    return session.scalars(
        select(User.id).prefix_with("/* tasks.lock_owner */").where(User.id == user_id).with_for_update(key_share=True)
    ).one_or_none()


def count(session: Session, user_id: UUID) -> int:
    """Return the number of the user's items, which is bounded."""
    return session.scalars(
        select(func.count()).prefix_with("/* tasks.count */").select_from(Todo).where(Todo.user_id == user_id)
    ).one()


def add(session: Session, user_id: UUID, values: Mapping[str, Any]) -> Todo:
    """Insert an item. `values` contain `search_document`."""
    return session.scalars(
        insert(Todo)
        .prefix_with("/* tasks.add */")
        .values(user_id=user_id, search_rules=RULES, **values)
        .returning(Todo)
    ).one()


def lock(session: Session, user_id: UUID, todo_id: UUID) -> Todo | None:
    """Return an item of the user and lock it until the transaction ends, or return None."""
    return session.scalars(
        select(Todo)
        .prefix_with("/* tasks.lock */")
        .where(Todo.user_id == user_id, Todo.id == todo_id)
        .with_for_update(key_share=True)
    ).one_or_none()


def change(session: Session, user_id: UUID, todo_id: UUID, values: Mapping[str, Any]) -> Todo | None:
    """Update columns. `values` contain `search_document` if they contain a text."""
    if "search_document" in values:
        values = {**values, "search_rules": RULES}
    return session.scalars(
        update(Todo)
        .prefix_with("/* tasks.change */")
        .where(Todo.user_id == user_id, Todo.id == todo_id)
        .values(**values, updated_at=func.greatest(Todo.updated_at, func.now()))
        .returning(Todo)
        .execution_options(populate_existing=True)
    ).one_or_none()


def complete(session: Session, user_id: UUID, todo_id: UUID) -> Todo | None:
    """Set the item completed, now unless it is already."""
    return session.scalars(
        update(Todo)
        .prefix_with("/* tasks.complete */")
        .where(Todo.user_id == user_id, Todo.id == todo_id)
        .values(
            completed=True,
            completed_at=func.coalesce(Todo.completed_at, func.now()),
            updated_at=case((Todo.completed, Todo.updated_at), else_=func.greatest(Todo.updated_at, func.now())),
        )
        .returning(Todo)
    ).one_or_none()


def remove(session: Session, user_id: UUID, todo_id: UUID) -> UUID | None:
    """Delete an item."""
    return session.scalars(
        delete(Todo)
        .prefix_with("/* tasks.remove */")
        .where(Todo.user_id == user_id, Todo.id == todo_id)
        .returning(Todo.id)
    ).one_or_none()
