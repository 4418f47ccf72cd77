from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base


class ErasureUnderWay(Base):
    """What is gone already of an account that is being erased, so that the receipt is right after an interruption, too.

    Changed in the transaction that deletes; gone with the one that writes the receipt. An operator's table.
    """

    __tablename__ = "erasures_under_way"

    account_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    rows: Mapped[dict[str, Any]] = mapped_column(JSONB)  # how many went, by table
    begun_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
