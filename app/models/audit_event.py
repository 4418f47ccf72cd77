from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import AUDIT_REASON_LIMIT
from app.enums import AuditResult
from app.extensions import Base
from app.ids import new_id
from app.models.columns import CreatedAt, enum_check


class AuditEvent(Base):
    """An action of an operator: actor, target, address and result. It is kept when the target is deleted.

    It is inserted as `begun` before the action and updated after it, so that an action that kills its process is
    recorded too.
    """

    __tablename__ = "audit_events"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    actor_kind: Mapped[str] = mapped_column(String(10))  # command, user, job or anonymous
    actor: Mapped[str] = mapped_column(String(255))
    actor_id: Mapped[UUID | None] = mapped_column(Uuid)  # id of the user, if the actor is one
    address: Mapped[str | None] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(100))  # noun.verb
    target: Mapped[str | None] = mapped_column(String(255))  # an id or a name
    result: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str | None] = mapped_column(Text)  # of a refusal or failure
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    request_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    seal: Mapped[int | None] = mapped_column(BigInteger)  # number of its seal; a sealed event does not change any more

    __table_args__ = (
        enum_check("result", AuditResult),
        CheckConstraint("(result = 'begun') = (ended_at IS NULL)", name="ended_at"),
        CheckConstraint(f"char_length(reason) <= {AUDIT_REASON_LIMIT}", name="reason"),
        # For the history of one target. The complete history, newest first, is the primary key backwards.
        Index("ix_audit_events_seal", "seal", "id"),  # also for those without a seal
        Index("ix_audit_events_target", "target", "id", postgresql_where=text("target IS NOT NULL")),
    )
