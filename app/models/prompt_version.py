from uuid import UUID

from sqlalchemy import Boolean, ForeignKeyConstraint, Integer, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import PROMPT_LIMIT
from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId


class PromptVersion(Base):
    """An earlier content of a prompt; the prompt itself has the current one."""

    __tablename__ = "prompt_versions"

    user_id: Mapped[OwnerId]
    prompt_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    content: Mapped[str] = mapped_column(String(PROMPT_LIMIT))
    variables: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[CreatedAt]  # when it became the current one

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "prompt_id"], ["prompts.user_id", "prompts.id"], ondelete="CASCADE"),
    )
