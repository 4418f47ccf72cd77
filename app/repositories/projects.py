"""SQL of projects."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from app.models import File, Project
from app.repositories.files import has_hold


def page(session: Session, user_id: UUID, *, after: UUID | None, limit: int) -> Sequence[Project]:
    """Return up to `limit` projects, newest first. Ids are ordered by time, so the primary key serves."""
    statement = (
        select(Project)
        .prefix_with("/* projects.page */")
        .where(Project.user_id == user_id)
        .order_by(Project.id.desc())
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(Project.id < after)
    return session.scalars(statement).all()


def get(session: Session, user_id: UUID, project_id: UUID) -> Project | None:
    """Return a project of the user, or None."""
    return session.scalars(
        select(Project).prefix_with("/* projects.get */").where(Project.user_id == user_id, Project.id == project_id)
    ).one_or_none()


def lock(session: Session, user_id: UUID, project_id: UUID) -> UUID | None:
    """Lock the project's row until the transaction ends. Turns that refer to it do not wait."""
    return session.scalars(
        select(Project.id)
        .prefix_with("/* projects.lock */")
        .where(Project.user_id == user_id, Project.id == project_id)
        .with_for_update(key_share=True)
    ).one_or_none()


def add(session: Session, user_id: UUID, values: dict[str, Any]) -> Project:
    """Insert a project."""
    return session.scalars(
        insert(Project).prefix_with("/* projects.add */").values(user_id=user_id, **values).returning(Project)
    ).one()


def change(session: Session, user_id: UUID, project_id: UUID, values: dict[str, Any]) -> Project | None:
    """Update columns."""
    return session.scalars(
        update(Project)
        .prefix_with("/* projects.change */")
        .where(Project.user_id == user_id, Project.id == project_id)
        .values(**values, updated_at=func.greatest(Project.updated_at, func.now()))
        .returning(Project)
    ).one_or_none()


def remove(session: Session, user_id: UUID, project_id: UUID) -> UUID | None:
    """Delete a project with its prompts and files; its conversations remain without a project.

    Returns None for an unknown project, and for one whose files a legal hold of the user keeps.
    """
    has_files = exists().where(File.user_id == user_id, File.project_id == project_id)
    return session.scalars(
        delete(Project)
        .prefix_with("/* projects.remove */")
        .where(Project.user_id == user_id, Project.id == project_id, ~and_(has_files, has_hold(user_id)))
        .returning(Project.id)
    ).one_or_none()
