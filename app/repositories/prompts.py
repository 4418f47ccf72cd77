"""SQL of a project's prompts. Every statement names the owner and the project."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from app.models import Project, Prompt


def _that(user_id: UUID, project_id: UUID, prompt_id: UUID) -> ColumnElement[bool]:
    return and_(Prompt.user_id == user_id, Prompt.id == prompt_id, Prompt.project_id == project_id)


def page(
    session: Session, user_id: UUID, project_id: UUID, *, after: tuple[int, UUID] | None, limit: int
) -> Sequence[Prompt] | None:
    """Up to `limit` prompts in the order in which they are told; None where the user has no such project."""
    of_the_project = and_(Prompt.user_id == Project.user_id, Prompt.project_id == Project.id)
    if after is not None:
        position, identifier = after
        of_the_project = and_(
            of_the_project,
            Prompt.position >= position,
            or_(Prompt.position > position, Prompt.id > identifier),
        )
    rows = session.execute(
        select(Project.id, Prompt)
        .prefix_with("/* prompts.page */")
        .outerjoin(Prompt, of_the_project)
        .where(Project.user_id == user_id, Project.id == project_id)
        .order_by(Prompt.position, Prompt.id)
        .limit(limit)
    ).all()
    return [prompt for _, prompt in rows if prompt is not None] if rows else None


def get(session: Session, user_id: UUID, project_id: UUID, prompt_id: UUID) -> Prompt | None:
    """That prompt, if it is in that project of the user's."""
    return session.scalars(
        select(Prompt).prefix_with("/* prompts.get */").where(_that(user_id, project_id, prompt_id))
    ).one_or_none()


def tally(session: Session, user_id: UUID, project_id: UUID) -> tuple[int, int | None]:
    """How many prompts the project has, and the last position; a count is fair where the number is bounded."""
    statement = (
        select(func.count(), func.max(Prompt.position))
        .prefix_with("/* prompts.tally */")
        .where(Prompt.user_id == user_id, Prompt.project_id == project_id)
    )
    count, last = session.execute(statement).one()
    return count, last


def add(session: Session, user_id: UUID, project_id: UUID, values: dict[str, Any]) -> Prompt:
    """A new prompt."""
    return session.scalars(
        insert(Prompt)
        .prefix_with("/* prompts.add */")
        .values(user_id=user_id, project_id=project_id, **values)
        .returning(Prompt)
    ).one()


def change(session: Session, user_id: UUID, project_id: UUID, prompt_id: UUID, values: dict[str, Any]) -> Prompt | None:
    """Set columns."""
    return session.scalars(
        update(Prompt)
        .prefix_with("/* prompts.change */")
        .where(_that(user_id, project_id, prompt_id))
        .values(**values, updated_at=func.greatest(Prompt.updated_at, func.now()))
        .returning(Prompt)
    ).one_or_none()


def remove(session: Session, user_id: UUID, project_id: UUID, prompt_id: UUID) -> UUID | None:
    """Delete it."""
    return session.scalars(
        delete(Prompt)
        .prefix_with("/* prompts.remove */")
        .where(_that(user_id, project_id, prompt_id))
        .returning(Prompt.id)
    ).one_or_none()
