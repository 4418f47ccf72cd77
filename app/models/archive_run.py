import enum
from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Float, Index, Integer, String, Text, Uuid, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import Moment, new_id, one_of


class ArchiveRunState(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"  # it has seen every conversation
    STOPPED = "stopped"  # its time or its rows were used up; it can be resumed
    FAILED = "failed"  # likewise
    INTERRUPTED = "interrupted"  # its process ended before it did; likewise


class ArchiveRun(Base):
    """One run of the archival. An operator's table: nobody owns its rows.

    It goes through all conversations by their keys: the cursor is the last one it has dealt with. The counts grow in
    the transactions that they count, so that they are true whenever the run is killed. `restored` is how many of its
    conversations have been taken out of their bundles since; what is neither in a bundle of this run nor counted there
    was deleted by its owner.
    """

    __tablename__ = "archive_runs"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    state: Mapped[str] = mapped_column(String(12), server_default=ArchiveRunState.RUNNING)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    cutoff: Mapped[Moment]  # conversations without a sign of life since then are archived
    cursor_user_id: Mapped[UUID | None] = mapped_column(Uuid)
    cursor_conversation_id: Mapped[UUID | None] = mapped_column(Uuid)
    seen: Mapped[int] = mapped_column(BigInteger, server_default="0")  # conversations looked at
    conversations: Mapped[int] = mapped_column(Integer, server_default="0")  # archived
    messages: Mapped[int] = mapped_column(BigInteger, server_default="0")
    plain_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    bundle_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    passed_over: Mapped[int] = mapped_column(Integer, server_default="0")  # in use at that moment
    unfit: Mapped[int] = mapped_column(Integer, server_default="0")  # left alone, and the log says why
    restored: Mapped[int] = mapped_column(Integer, server_default="0")
    paused_seconds: Mapped[float] = mapped_column(Float, server_default="0")  # because others had to go first
    paused_for: Mapped[str | None] = mapped_column(Text)  # why it last did
    reason: Mapped[str | None] = mapped_column(Text)  # why it did not complete

    __table_args__ = (
        one_of("state", ArchiveRunState),
        CheckConstraint("(state = 'running') = (finished_at IS NULL)", name="finished_at"),
        Index("ix_archive_runs_started_at", text("started_at DESC")),
    )
