import enum
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, Integer, String, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import new_id, one_of

REASON_LIMIT = 2000  # characters


class JobRunStatus(enum.StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # not needed: it runs elsewhere, or has just run
    LOST = "lost"  # its worker ended before it did


class JobRun(Base):
    """One delivery of one job's message to a worker, and what came of it. An operator's table: nobody owns its rows.

    `message_id` is the same for all deliveries of one message, which `attempt` numbers from 1. `slot` is the moment of
    the schedule that asked for the run, null where something else did. `reason` says why a run did not succeed.
    """

    __tablename__ = "job_runs"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    job: Mapped[str] = mapped_column(String(100))  # its wire name
    message_id: Mapped[str | None] = mapped_column(String(100))
    attempt: Mapped[int] = mapped_column(Integer, server_default="1")
    status: Mapped[str] = mapped_column(String(10))
    slot: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    queued_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    request_id: Mapped[str | None] = mapped_column(String(64))  # of the request that asked for it
    worker: Mapped[str | None] = mapped_column(String(255))  # host:pid
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    report: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        one_of("status", JobRunStatus),
        CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished_at"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint(f"char_length(reason) <= {REASON_LIMIT}", name="reason"),
        # A job's history, its last success, and what is old enough to go.
        Index("ix_job_runs_job", "job", text("started_at DESC")),
        Index("ix_job_runs_message_id", "message_id", postgresql_where=text("message_id IS NOT NULL")),
        # Few rows at any moment: the search for runs whose worker is gone reads this and nothing else.
        Index("ix_job_runs_running", "job", postgresql_where=text("status = 'running'")),
    )
