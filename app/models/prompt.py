from uuid import UUID

from sqlalchemy import Boolean, CheckConstraint, ForeignKeyConstraint, Index, Integer, String, Text, Uuid, false, true
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import PROMPT_LIMIT
from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId, OwnId, UpdatedAt


class Prompt(Base):
    """A system prompt of a project. The enabled ones, in order of position, begin the context of each of its turns."""

    __tablename__ = "prompts"

    user_id: Mapped[OwnerId]
    id: Mapped[OwnId]
    project_id: Mapped[UUID] = mapped_column(Uuid)
    title: Mapped[str] = mapped_column(String(100))
    content: Mapped[str] = mapped_column(Text)
    position: Mapped[int] = mapped_column(Integer, server_default="0")
    enabled: Mapped[bool] = mapped_column(Boolean, server_default=true())
    variables: Mapped[bool] = mapped_column(Boolean, server_default=false())  # whether the content may have some
    version: Mapped[int] = mapped_column(Integer, server_default="1")  # of the content
    version_at: Mapped[CreatedAt]  # when this content became the current one
    draft: Mapped[str | None] = mapped_column(String(PROMPT_LIMIT))  # the next content, which is not sent yet
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "project_id"], ["projects.user_id", "projects.id"], ondelete="CASCADE"),
        CheckConstraint("char_length(content) BETWEEN 1 AND 50000", name="content"),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
        Index("ix_prompts_project", "user_id", "project_id", "position"),
    )
