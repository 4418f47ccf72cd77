from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, Integer, Uuid
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId


class TurnEventBatch(Base):
    """A batch of stream events, so that another process can continue the stream. Deleted after some hours.

    `events` is a list of [sequence, kind, data], in order; `sequence` is the last one's. The type is json, not jsonb,
    because PostgreSQL stores it unchanged and nothing searches it.
    """

    __tablename__ = "turn_events"

    user_id: Mapped[OwnerId]
    turn_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    attempt: Mapped[UUID] = mapped_column(Uuid)
    events: Mapped[list[Any]] = mapped_column(JSON)
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "turn_id"], ["turns.user_id", "turns.id"], ondelete="CASCADE"),
        # For the purge only. Rows are in order of time, so a small BRIN index is enough.
        Index("ix_turn_events_created_at", "created_at", postgresql_using="brin"),
    )
