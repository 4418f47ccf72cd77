from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Uuid,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import OwnerId, one_of
from app.models.conversation import ConversationStatus


class ConversationArchive(Base):
    """All the messages of a bundled conversation, compressed; `app/services/archives.py` knows how.

    `sha256` and `plain_bytes` are of what the bundle holds, uncompressed. `run_id` is the run that wrote it: a plain
    column, because runs are the operator's. `previous_status` is what an undo gives back.
    """

    __tablename__ = "conversation_archives"

    user_id: Mapped[OwnerId]
    conversation_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    run_id: Mapped[UUID] = mapped_column(Uuid)
    message_count: Mapped[int] = mapped_column(Integer)
    plain_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    bundle: Mapped[bytes] = mapped_column(LargeBinary)
    previous_status: Mapped[str] = mapped_column(String(10))
    archived_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
        ),
        one_of("previous_status", ConversationStatus),
        CheckConstraint("message_count >= 0", name="message_count"),
        CheckConstraint("octet_length(sha256) = 32", name="sha256"),
        # What a run has bundled, to be undone.
        Index("ix_conversation_archives_run", "run_id", "user_id", "conversation_id"),
    )
