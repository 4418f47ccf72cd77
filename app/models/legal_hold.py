from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import REASON_LIMIT
from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId, OwnId


class LegalHold(Base):
    """A legal hold that prevents the deletion of a conversation; lifting the hold deletes its row.

    `conversations.legal_hold` is true while there is one. The foreign key does not cascade, so PostgreSQL refuses to
    delete the conversation, or its owner.
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
        CheckConstraint(f"char_length(reason) BETWEEN 1 AND {REASON_LIMIT}", name="reason"),
        Index("ix_legal_holds_conversation", "user_id", "conversation_id"),
    )
