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

from app.bounds import FINISH_REASON_LIMIT, MODEL_LIMIT
from app.enums import TurnStatus
from app.extensions import Base
from app.models.columns import Moment, OwnerId, OwnId, enum_check


class Turn(Base):
    """One user message and its answer: provider, model, tokens, status and times.

    A retry of a failed turn is a new `attempt` of the same turn. `error` is {code, detail} of the last failure.
    """

    __tablename__ = "turns"

    user_id: Mapped[OwnerId]
    id: Mapped[OwnId]
    conversation_id: Mapped[UUID] = mapped_column(Uuid)
    attempt: Mapped[UUID] = mapped_column(Uuid)
    status: Mapped[str] = mapped_column(String(12))
    position: Mapped[int] = mapped_column(Integer)  # of the user's message
    answer_position: Mapped[int | None] = mapped_column(Integer)  # of the answer, once there is one
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
    # The stream has a subscriber in some process: store its events while the turn runs.
    events_wanted: Mapped[bool] = mapped_column(Boolean, server_default=false())
    # Sequence number of the last stream event, once the turn has ended; the next attempt continues from it.
    last_sequence: Mapped[int | None] = mapped_column(Integer)
    # Number among the user's running turns, unique per user: bounds how many run at a time.
    slot: Mapped[int | None] = mapped_column(SmallInteger)
    # Tokens that count in the owner's daily quota, null without one: reserved while the turn runs, then used. Used
    # tokens are estimated if the provider did not report them.
    quota_tokens: Mapped[int | None] = mapped_column(Integer)
    quota_estimated: Mapped[bool | None] = mapped_column(Boolean)

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        enum_check("status", TurnStatus),
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
        # For the routines only. Rows are in order of time, so a small BRIN index is enough.
        Index("ix_turns_started_at", "started_at", postgresql_using="brin"),
        # Few rows at any time; the search for stale turns reads only this index.
        Index("uq_turns_running", "user_id", "slot", unique=True, postgresql_where=text("status = 'running'")),
    )
