"""SQL of the earlier versions of a prompt."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.models import Prompt, PromptVersion


def page(session: Session, user_id: UUID, prompt_id: UUID, *, below: int, limit: int) -> Sequence[PromptVersion]:
    """Return up to `limit` earlier versions with numbers below `below`, newest first."""
    return session.scalars(
        select(PromptVersion)
        .prefix_with("/* prompt_versions.page */")
        .where(PromptVersion.user_id == user_id, PromptVersion.prompt_id == prompt_id, PromptVersion.number < below)
        .order_by(PromptVersion.number.desc())
        .limit(limit)
    ).all()


def get(session: Session, user_id: UUID, prompt_id: UUID, number: int) -> PromptVersion | None:
    """Return an earlier version, or None."""
    return session.scalars(
        select(PromptVersion)
        .prefix_with("/* prompt_versions.get */")
        .where(PromptVersion.user_id == user_id, PromptVersion.prompt_id == prompt_id, PromptVersion.number == number)
    ).one_or_none()


def keep_current(session: Session, user_id: UUID, prompt_id: UUID) -> None:
    """Insert the prompt's current content as a version, before it changes."""
    current = select(
        Prompt.user_id, Prompt.id, Prompt.version, Prompt.content, Prompt.variables, Prompt.version_at
    ).where(Prompt.user_id == user_id, Prompt.id == prompt_id)
    columns = ("user_id", "prompt_id", "number", "content", "variables", "created_at")
    session.execute(
        insert(PromptVersion).prefix_with("/* prompt_versions.keep_current */").from_select(columns, current)
    )


def purge(session: Session, user_id: UUID, prompt_id: UUID, *, up_to: int) -> None:
    """Delete the earlier versions with numbers up to `up_to`."""
    session.execute(
        delete(PromptVersion)
        .prefix_with("/* prompt_versions.purge */")
        .where(PromptVersion.user_id == user_id, PromptVersion.prompt_id == prompt_id, PromptVersion.number <= up_to)
    )
