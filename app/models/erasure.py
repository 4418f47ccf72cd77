from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, String, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import new_id


class Erasure(Base):
    """The receipt for an account that was erased: what went, and which backups still had it. An operator's table.

    Nothing of the person is in it but the id, by which a later check looks whether something has come back.
    """

    __tablename__ = "erasures"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    account_id: Mapped[UUID] = mapped_column(Uuid)
    requested_by: Mapped[str] = mapped_column(String(255))
    reason: Mapped[str] = mapped_column(Text)
    rows: Mapped[dict[str, Any]] = mapped_column(JSONB)  # how many went, by table
    backups: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)  # that still have it: name, and when it expires
    erased_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
