"""SQL of a project's prompts."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.models import Project, Prompt


def _is_prompt(user_id: UUID, project_id: UUID, prompt_id: UUID) -> ColumnElement[bool]:
    return and_(Prompt.user_id == user_id, Prompt.id == prompt_id, Prompt.project_id == project_id)


def page(
    session: Session, user_id: UUID, project_id: UUID, *, after: tuple[int, UUID] | None, limit: int
) -> Sequence[Prompt] | None:
    """Return up to `limit` prompts in the order of the context, or None if the user has no such project."""
    of_project = and_(Prompt.user_id == Project.user_id, Prompt.project_id == Project.id)
    if after is not None:
        position, identifier = after
        of_project = and_(
            of_project,
            Prompt.position >= position,
            or_(Prompt.position > position, Prompt.id > identifier),
        )
    rows = session.execute(
        select(Project.id, Prompt)
        .prefix_with("/* prompts.page */")
        .outerjoin(Prompt, of_project)
        .where(Project.user_id == user_id, Project.id == project_id)
        .order_by(Prompt.position, Prompt.id)
        .limit(limit)
    ).all()
    return [prompt for _, prompt in rows if prompt is not None] if rows else None


def get(session: Session, user_id: UUID, project_id: UUID, prompt_id: UUID, *, lock: bool = False) -> Prompt | None:
    """Return a prompt of that project of the user, or None. `lock` locks its row until the transaction ends."""
    statement = select(Prompt).where(_is_prompt(user_id, project_id, prompt_id))
    if lock:
        statement = statement.prefix_with("/* prompts.lock */").with_for_update(key_share=True)
    else:
        statement = statement.prefix_with("/* prompts.get */")
    return session.scalars(statement).one_or_none()


def count_and_last(session: Session, user_id: UUID, project_id: UUID) -> tuple[int, int | None]:
    """Return the number of the project's prompts, which is bounded, and the last position."""
    statement = (
        select(func.count(), func.max(Prompt.position))
        .prefix_with("/* prompts.count */")
        .where(Prompt.user_id == user_id, Prompt.project_id == project_id)
    )
    count, last = session.execute(statement).one()
    return count, last


def add(session: Session, user_id: UUID, project_id: UUID, values: dict[str, Any]) -> Prompt:
    """Insert a prompt."""
    return session.scalars(
        insert(Prompt)
        .prefix_with("/* prompts.add */")
        .values(user_id=user_id, project_id=project_id, **values)
        .returning(Prompt)
    ).one()


def change(session: Session, user_id: UUID, project_id: UUID, prompt_id: UUID, values: dict[str, Any]) -> Prompt | None:
    """Update columns. A change of `version` sets its time too."""
    if "version" in values:
        values = {**values, "version_at": func.greatest(Prompt.version_at, func.now())}
    return session.scalars(
        update(Prompt)
        .prefix_with("/* prompts.change */")
        .where(_is_prompt(user_id, project_id, prompt_id))
        .values(**values, updated_at=func.greatest(Prompt.updated_at, func.now()))
        .returning(Prompt)
        .execution_options(populate_existing=True)
    ).one_or_none()


def remove(session: Session, user_id: UUID, project_id: UUID, prompt_id: UUID) -> UUID | None:
    """Delete a prompt."""
    return session.scalars(
        delete(Prompt)
        .prefix_with("/* prompts.remove */")
        .where(_is_prompt(user_id, project_id, prompt_id))
        .returning(Prompt.id)
    ).one_or_none()
