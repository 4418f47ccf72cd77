from typing import Any

from sqlalchemy import Boolean, CheckConstraint, String, Text, false, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, OwnId, UpdatedAt, UserOwned


class Project(Base):
    """A chatbot of a user: prompts, and optionally one of the operator's providers and a model."""

    __tablename__ = "projects"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str | None] = mapped_column(Text)
    provider: Mapped[str | None] = mapped_column(String(20))
    model: Mapped[str | None] = mapped_column(String(200))
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    provider_files: Mapped[bool] = mapped_column(Boolean, server_default=false())
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint("char_length(description) <= 2000", name="description"),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
    )
