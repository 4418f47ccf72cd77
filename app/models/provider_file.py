from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKeyConstraint, Index, Integer, String, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.enums import ProviderFileState
from app.extensions import Base
from app.models.columns import CreatedAt, Moment, UpdatedAt, UserOwned, enum_check


class ProviderFile(Base):
    """The copy of a user's file at a provider. `remote_id` is the provider's id once it is uploaded.

    `reason` says why the last attempt failed. The next one begins at `next_attempt_at`; null means never. A trigger
    adds a row to `provider_file_removals` when a row with a `remote_id` is deleted.
    """

    __tablename__ = "provider_files"

    user_id: Mapped[UserOwned]
    file_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    provider: Mapped[str] = mapped_column(String(20), primary_key=True)
    remote_id: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[ProviderFileState] = mapped_column(String(20), server_default=ProviderFileState.PENDING)
    reason: Mapped[str | None] = mapped_column(String(500))
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_attempt_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), server_default=text("now()"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "file_id"], ["files.user_id", "files.id"], ondelete="CASCADE"),
        enum_check("state", ProviderFileState),
        CheckConstraint("state <> 'uploaded' OR remote_id IS NOT NULL", name="remote_id"),
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("ix_provider_files_remote", "provider", "remote_id"),
        Index("ix_provider_files_due", "next_attempt_at", postgresql_where=text("state IN ('pending', 'failed')")),
    )


class ProviderFileRemoval(Base):
    """A file at a provider that no user has any more; a job deletes it there."""

    __tablename__ = "provider_file_removals"

    provider: Mapped[str] = mapped_column(String(20), primary_key=True)
    remote_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    receipt_id: Mapped[UUID | None] = mapped_column(Uuid)  # of the erasure that removed the copy
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    next_attempt_at: Mapped[Moment] = mapped_column(server_default=text("now()"))
    created_at: Mapped[Moment] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        Index("ix_provider_file_removals_due", "next_attempt_at"),
        Index("ix_provider_file_removals_receipt", "receipt_id", postgresql_where=text("receipt_id IS NOT NULL")),
    )
