from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, Integer, String, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import JOB_REASON_LIMIT
from app.enums import JobRunStatus
from app.extensions import Base
from app.ids import new_id
from app.models.columns import enum_check


class JobRun(Base):
    """One run of a job: a delivery of its message to a worker, and the result. A table of the operator.

    `message_id` is the same for all deliveries of one message, which `attempt` numbers from 1. `slot` is the scheduled
    time, null for a run that beat did not enqueue. `reason` is set for a run that did not succeed.
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
    request_id: Mapped[str | None] = mapped_column(String(64))  # of the request that enqueued it
    worker: Mapped[str | None] = mapped_column(String(255))  # host:pid
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    report: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    reason: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        enum_check("status", JobRunStatus),
        CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished_at"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint(f"char_length(reason) <= {JOB_REASON_LIMIT}", name="reason"),
        # For a job's history, its last success, and the purge.
        Index("ix_job_runs_job", "job", text("started_at DESC")),
        Index("ix_job_runs_message_id", "message_id", postgresql_where=text("message_id IS NOT NULL")),
        # Few rows at any time; the search for lost runs reads only this index.
        Index("ix_job_runs_running", "job", postgresql_where=text("status = 'running'")),
    )
