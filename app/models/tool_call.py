from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, CheckConstraint, DateTime, ForeignKeyConstraint, Index, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import ANSWER_CONTENT_LIMIT
from app.enums import ToolCallState
from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId, enum_check


class ToolCallRecord(Base):
    """A call of a tool that must not be repeated, recorded before it is made.

    A new attempt at the turn computes the same `key` for the same call, finds the row, and does not call again. A row
    in state `begun` whose attempt has ended is a call whose outcome is unknown. Deleted after TOOL_CALLS_KEEP_DAYS.
    """

    __tablename__ = "tool_calls"

    user_id: Mapped[OwnerId]
    turn_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)  # SHA-256 of turn, tool, arguments and ordinal
    tool: Mapped[str] = mapped_column(String(64))
    attempt: Mapped[UUID] = mapped_column(Uuid)
    state: Mapped[str] = mapped_column(String(10))
    content: Mapped[str | None] = mapped_column(Text)  # the result, once there is one
    is_error: Mapped[bool | None] = mapped_column(Boolean)
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "turn_id"], ["turns.user_id", "turns.id"], ondelete="CASCADE"),
        enum_check("state", ToolCallState),
        CheckConstraint(f"char_length(content) <= {ANSWER_CONTENT_LIMIT}", name="content"),
        CheckConstraint("(state = 'done') = (content IS NOT NULL)", name="state_content"),
        # For the purge only. Rows are in order of time, so a small BRIN index is enough.
        Index("ix_tool_calls_created_at", "created_at", postgresql_using="brin"),
    )
