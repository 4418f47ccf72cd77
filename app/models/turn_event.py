from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, Integer, Uuid
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, OwnerId


class TurnEventBatch(Base):
    """What a stream said in a moment, so that another process can go on telling it. Deleted after hours.

    `events` is a list of [sequence, kind, data], in order; `sequence` is that of the last of them. The texts are read
    back as they were written, never searched: json, which PostgreSQL stores as it comes.
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
        # For the purge alone. Rows come in the order of time, so a few bytes for many pages are enough.
        Index("ix_turn_events_created_at", "created_at", postgresql_using="brin"),
    )
