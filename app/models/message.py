import enum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Integer, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId, one_of

USER_CONTENT_LIMIT = 10_000  # characters a person may send in one message
ANSWER_CONTENT_LIMIT = 1_000_000  # characters kept of anybody else's; longer is cut and marked


class MessageRole(enum.StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class Message(Base):
    """One message, named by its place. The primary key is the only index: it orders, counts and isolates.

    References its conversation only: a foreign key to users as well would deadlock with the erasure of a user.
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
        one_of("role", MessageRole),
        CheckConstraint("position >= 1", name="position"),
        # Strict with people only: an answer that was paid for is never thrown away by a CHECK.
        CheckConstraint(
            "CASE WHEN role = 'user'"
            f" THEN content IS NOT NULL AND char_length(content) BETWEEN 1 AND {USER_CONTENT_LIMIT}"
            f" ELSE content IS NULL OR char_length(content) <= {ANSWER_CONTENT_LIMIT} END",
            name="content",
        ),
    )
