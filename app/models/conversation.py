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

from app.enums import ConversationStatus, ConversationStorage
from app.extensions import Base
from app.models.columns import CreatedAt, OwnId, UpdatedAt, UserOwned, enum_check


class Conversation(Base):
    """A conversation, with the lease of its running attempt.

    `next_position` and `message_count` change only in the UPDATE that also locks the row for a turn, so positions have
    no gaps and counting needs no query. `running_attempt` is the only attempt that may write messages, or null.
    """

    __tablename__ = "conversations"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    project_id: Mapped[UUID | None] = mapped_column(Uuid)
    title: Mapped[str | None] = mapped_column(String(200))  # null until the first message
    preview: Mapped[str | None] = mapped_column(String(200))  # beginning of the newest message
    status: Mapped[str] = mapped_column(String(10), server_default=ConversationStatus.ACTIVE)
    storage: Mapped[str] = mapped_column(String(10), server_default=ConversationStorage.LIVE)
    legal_hold: Mapped[bool] = mapped_column(Boolean, server_default=false())
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    message_count: Mapped[int] = mapped_column(Integer, server_default="0")
    next_position: Mapped[int] = mapped_column(Integer, server_default="1")
    running_attempt: Mapped[UUID | None] = mapped_column(Uuid)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    # Time of the last unarchiving or unbundling, which counts as activity.
    revived_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "project_id"],
            ["projects.user_id", "projects.id"],
            # Only project_id becomes null: user_id is part of this key too.
            ondelete="SET NULL (project_id)",
        ),
        enum_check("status", ConversationStatus),
        enum_check("storage", ConversationStorage),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
        CheckConstraint("message_count >= 0", name="message_count"),
        CheckConstraint("next_position > message_count", name="next_position"),
        Index("ix_conversations_listing", "user_id", "status", text("updated_at DESC"), "id"),
        # Covers the foreign key too: equality implies IS NOT NULL. Conversations without a project are not in it.
        Index(
            "ix_conversations_project", "user_id", "project_id", "id", postgresql_where=text("project_id IS NOT NULL")
        ),
    )
