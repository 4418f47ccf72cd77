import enum
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, new_id, one_of

AUDIT_REASON_LIMIT = 2000  # characters


class AuditResult(enum.StrEnum):
    BEGUN = "begun"  # and never heard of again, if it stays so: its process ended
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class AuditEvent(Base):
    """Who did what, on whom, from where, with which result. An operator's table; it outlives whom it is about.

    Written before the act as `begun` and again after it, so that an act that ended its process is there, too.
    """

    __tablename__ = "audit_events"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    actor_kind: Mapped[str] = mapped_column(String(10))  # command, user or job
    actor: Mapped[str] = mapped_column(String(255))
    actor_id: Mapped[UUID | None] = mapped_column(Uuid)  # of an account
    address: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(100))  # noun.verb
    target: Mapped[str | None] = mapped_column(String(255))  # an id or a name
    result: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str | None] = mapped_column(Text)  # why it was refused or failed
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    request_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        one_of("result", AuditResult),
        CheckConstraint("(result = 'begun') = (ended_at IS NULL)", name="ended_at"),
        CheckConstraint(f"char_length(reason) <= {AUDIT_REASON_LIMIT}", name="reason"),
        # What happened to somebody or something; all of it, newest first, is the primary key backwards.
        Index("ix_audit_events_target", "target", "id", postgresql_where=text("target IS NOT NULL")),
    )
