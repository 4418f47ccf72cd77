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

from app.enums import ConversationStatus
from app.extensions import Base
from app.models.columns import OwnerId, enum_check


class ConversationArchive(Base):
    """The compressed messages of a bundled conversation; `app/services/bundles.py` has the format.

    `sha256` and `plain_bytes` refer to the uncompressed content. `run_id` is the run that wrote it, without a foreign
    key, because runs have no owner. An undo restores `previous_status`.
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
        enum_check("previous_status", ConversationStatus),
        CheckConstraint("message_count >= 0", name="message_count"),
        CheckConstraint("octet_length(sha256) = 32", name="sha256"),
        # For the undo of a run.
        Index("ix_conversation_archives_run", "run_id", "user_id", "conversation_id"),
    )
