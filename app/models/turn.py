import enum
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import Moment, OwnerId, OwnId, one_of

MODEL_LIMIT = 200  # characters
FINISH_REASON_LIMIT = 50


class TurnStatus(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Turn(Base):
    """One user message and all that answers it: the ledger of what was asked of which provider, and how it ended.

    Running again after a failure is a new `attempt` of the same turn. `error` is {code, detail} of the last failure.
    """

    __tablename__ = "turns"

    user_id: Mapped[OwnerId]
    id: Mapped[OwnId]
    conversation_id: Mapped[UUID] = mapped_column(Uuid)
    attempt: Mapped[UUID] = mapped_column(Uuid)
    status: Mapped[str] = mapped_column(String(12))
    position: Mapped[int] = mapped_column(Integer)  # of its user message
    answer_position: Mapped[int | None] = mapped_column(Integer)  # of its last message, once it has one
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    request_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    provider: Mapped[str] = mapped_column(String(20))
    model: Mapped[str | None] = mapped_column(String(MODEL_LIMIT))
    input_tokens: Mapped[int | None] = mapped_column(Integer)
    output_tokens: Mapped[int | None] = mapped_column(Integer)
    finish_reason: Mapped[str | None] = mapped_column(String(FINISH_REASON_LIMIT))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    heartbeat_at: Mapped[Moment]
    cancel_requested_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    started_at: Mapped[Moment]
    first_token_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Somebody follows the stream, here or in another process: what it says is to be stored while it runs.
    events_wanted: Mapped[bool] = mapped_column(Boolean, server_default=false())
    # Of the last event of its stream, once it has ended; the next attempt counts on from there.
    last_sequence: Mapped[int | None] = mapped_column(Integer)
    # Its place among the user's running turns, of which each is there once: so many run at a time, and never more.
    slot: Mapped[int | None] = mapped_column(SmallInteger)
    # What it counts for in its owner's daily quota, NULL without one: while it runs, what is set aside for it; then
    # what it took, which is an estimate as long as no provider has said.
    quota_tokens: Mapped[int | None] = mapped_column(Integer)
    quota_estimated: Mapped[bool | None] = mapped_column(Boolean)

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        one_of("status", TurnStatus),
        CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished_at"),
        CheckConstraint("(idempotency_key IS NULL) = (request_hash IS NULL)", name="request_hash"),
        Index("ix_turns_conversation", "user_id", "conversation_id"),
        Index(
            "uq_turns_idempotency_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        # For the duties alone. Rows come in the order of time, so a few bytes for many pages are enough.
        Index("ix_turns_started_at", "started_at", postgresql_using="brin"),
        # Few rows are running at any moment: the sweep for stale turns reads this and nothing else.
        Index("uq_turns_running", "user_id", "slot", unique=True, postgresql_where=text("status = 'running'")),
    )
