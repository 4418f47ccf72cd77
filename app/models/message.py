from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Integer, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import ANSWER_CONTENT_LIMIT, USER_CONTENT_LIMIT
from app.enums import MessageRole
from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId, enum_check


class Message(Base):
    """One message, identified by its position. The primary key is the only index.

    It references its conversation only: a foreign key to users would deadlock with the erasure of a user.
    """

    __tablename__ = "messages"

    user_id: Mapped[OwnerId]
    conversation_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    role: Mapped[str] = mapped_column(String(10))
    content: Mapped[str | None] = mapped_column(Text)
    tool_calls: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    tool_call_id: Mapped[str | None] = mapped_column(String(200))
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'"))
    turn_id: Mapped[UUID | None] = mapped_column(Uuid)
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        enum_check("role", MessageRole),
        CheckConstraint("position >= 1", name="position"),
        # Strict for users' messages only: a CHECK must not lose an answer that was paid for.
        CheckConstraint(
            "CASE WHEN role = 'user'"
            f" THEN content IS NOT NULL AND char_length(content) BETWEEN 1 AND {USER_CONTENT_LIMIT}"
            f" ELSE content IS NULL OR char_length(content) <= {ANSWER_CONTENT_LIMIT} END",
            name="content",
        ),
    )
