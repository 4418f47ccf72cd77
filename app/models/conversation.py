import enum
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, OwnId, UpdatedAt, UserOwned, one_of


class ConversationStatus(enum.StrEnum):
    """The owner's word: where the conversation is listed."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class ConversationStorage(enum.StrEnum):
    """Where the messages are: in the live table, or in one compressed bundle."""

    LIVE = "live"
    BUNDLED = "bundled"


class Conversation(Base):
    """A conversation and the lease of the attempt that is answering in it.

    `next_position` and `message_count` change only in the UPDATE that also locks the row for a turn's statement, so
    positions are contiguous and the count is free. `running_attempt` is null or the one attempt that may write here.
    """

    __tablename__ = "conversations"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    project_id: Mapped[UUID | None] = mapped_column(Uuid)
    title: Mapped[str | None] = mapped_column(String(200))  # null until the first message gives one
    preview: Mapped[str | None] = mapped_column(String(200))  # the start of the newest message
    status: Mapped[str] = mapped_column(String(10), server_default=ConversationStatus.ACTIVE)
    storage: Mapped[str] = mapped_column(String(10), server_default=ConversationStorage.LIVE)
    legal_hold: Mapped[bool] = mapped_column(Boolean, server_default=false())
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    message_count: Mapped[int] = mapped_column(Integer, server_default="0")
    next_position: Mapped[int] = mapped_column(Integer, server_default="1")
    running_attempt: Mapped[UUID | None] = mapped_column(Uuid)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    # When it was last unarchived, or taken out of its bundle: a sign of life, like a message.
    revived_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "project_id"],
            ["projects.user_id", "projects.id"],
            # Only the project is forgotten, not the owner: user_id is part of this key and may not become null.
            ondelete="SET NULL (project_id)",
        ),
        one_of("status", ConversationStatus),
        one_of("storage", ConversationStorage),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
        CheckConstraint("message_count >= 0", name="message_count"),
        CheckConstraint("next_position > message_count", name="next_position"),
        Index("ix_conversations_listing", "user_id", "status", text("updated_at DESC"), "id"),
        # Covers the foreign key too: equality implies IS NOT NULL. Conversations without a project pay nothing for it.
        Index("ix_conversations_project", "user_id", "project_id", postgresql_where=text("project_id IS NOT NULL")),
    )
