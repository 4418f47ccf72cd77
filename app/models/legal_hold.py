from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId, OwnId

HOLD_REASON_LIMIT = 1000  # characters


class LegalHold(Base):
    """Why a conversation may not go away, who said so, and when; lifting a hold deletes its row.

    `conversations.legal_hold` is true while there is one. The foreign key does not cascade: as long as somebody holds
    a conversation, PostgreSQL itself refuses its deletion, and that of its owner.
    """

    __tablename__ = "legal_holds"

    user_id: Mapped[OwnerId]
    id: Mapped[OwnId]
    conversation_id: Mapped[UUID] = mapped_column(Uuid)
    reason: Mapped[str] = mapped_column(Text)
    placed_by: Mapped[str] = mapped_column(String(255))
    placed_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"]),
        CheckConstraint(f"char_length(reason) BETWEEN 1 AND {HOLD_REASON_LIMIT}", name="reason"),
        Index("ix_legal_holds_conversation", "user_id", "conversation_id"),
    )
