from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base


class PendingErasure(Base):
    """The progress of an erasure, so that its receipt is complete even after an interruption.

    It is inserted before the first change, updated in each transaction that deletes, and deleted in the one that writes
    the receipt. If the user requested the erasure, it is inserted with that request and has the id of the receipt.
    """

    __tablename__ = "pending_erasures"

    account_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    rows: Mapped[dict[str, Any]] = mapped_column(JSONB)  # number of deleted rows by table
    receipt_id: Mapped[UUID | None] = mapped_column(Uuid)
    begun_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
