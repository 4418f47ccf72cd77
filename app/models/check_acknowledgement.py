import datetime as dt
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, String, Text, UniqueConstraint, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import FINDING_OBJECT_LIMIT, REASON_LIMIT
from app.extensions import Base
from app.ids import new_id
from app.models.columns import CreatedAt


class CheckAcknowledgement(Base):
    """An operator's decision to accept one finding of the doctor until the end of a day.

    `object` is what the finding is about, empty for a finding without one. A finding that is worse than `level` is not
    covered.
    """

    __tablename__ = "check_acknowledgements"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    check_id: Mapped[str] = mapped_column(String(100))
    object: Mapped[str] = mapped_column(String(FINDING_OBJECT_LIMIT), server_default=text("''"))
    level: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str] = mapped_column(Text)
    ends_on: Mapped[dt.date] = mapped_column(Date)  # in UTC, included
    acknowledged_by: Mapped[str] = mapped_column(String(255))
    acknowledged_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint(f"char_length(reason) BETWEEN 1 AND {REASON_LIMIT}", name="reason"),
        UniqueConstraint("check_id", "object", name="uq_check_acknowledgements_finding"),
    )
