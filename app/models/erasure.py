from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, String, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.ids import new_id


class Erasure(Base):
    """The receipt of an erased user: deleted rows, and backups that still contained the user.

    The only personal data in it is the id, with which a check finds erased users that a restore has brought back.
    """

    __tablename__ = "erasures"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    account_id: Mapped[UUID] = mapped_column(Uuid)
    requested_by: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str] = mapped_column(Text)
    rows: Mapped[dict[str, Any]] = mapped_column(JSONB)  # number of deleted rows by table
    backups: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)  # that still contained the user: name and expiry
    # When the last stored file was deleted in the store, and the last copy at a provider. Null until then.
    objects_deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    provider_copies_deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    erased_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
