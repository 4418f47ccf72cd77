from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Float, Index, Integer, String, Text, Uuid, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.enums import ArchiveRunState
from app.extensions import Base
from app.ids import new_id
from app.models.columns import Moment, enum_check


class ArchiveRun(Base):
    """One run of archival. A table of the operator, without an owner.

    A run processes all conversations in the order of their primary keys; the cursor is the last one processed. The
    counters change in the transactions that they count, so they are exact even if the run is killed. `restored` counts
    conversations of this run that were unbundled since. Conversations that are neither in a bundle of this run nor
    counted as restored were deleted by their owners.
    """

    __tablename__ = "archive_runs"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    state: Mapped[str] = mapped_column(String(12), server_default=ArchiveRunState.RUNNING)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    cutoff: Mapped[Moment]  # conversations without activity since then are archived
    cursor_user_id: Mapped[UUID | None] = mapped_column(Uuid)
    cursor_conversation_id: Mapped[UUID | None] = mapped_column(Uuid)
    examined: Mapped[int] = mapped_column(BigInteger, server_default="0")  # conversations, whether idle or not
    conversations: Mapped[int] = mapped_column(Integer, server_default="0")  # archived
    messages: Mapped[int] = mapped_column(BigInteger, server_default="0")
    plain_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    bundle_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    skipped: Mapped[int] = mapped_column(Integer, server_default="0")  # in use
    rejected: Mapped[int] = mapped_column(Integer, server_default="0")  # cannot be bundled; the log has the reason
    restored: Mapped[int] = mapped_column(Integer, server_default="0")
    paused_seconds: Mapped[float] = mapped_column(Float, server_default="0")  # waiting for chat requests
    paused_for: Mapped[str | None] = mapped_column(Text)  # reason of the last pause
    reason: Mapped[str | None] = mapped_column(Text)  # of an incomplete run

    __table_args__ = (
        enum_check("state", ArchiveRunState),
        CheckConstraint("(state = 'running') = (finished_at IS NULL)", name="finished_at"),
        Index("ix_archive_runs_started_at", text("started_at DESC")),
    )
