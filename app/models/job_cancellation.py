from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import REASON_LIMIT
from app.extensions import Base
from app.models.columns import CreatedAt


class JobCancellation(Base):
    """The cancellation of a job's message, whether a worker has received it or not. A table of the operator.

    A worker reads it when it receives the message: no run of it begins, and a run that it ends is not retried.
    """

    __tablename__ = "job_cancellations"

    message_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    cancelled_by: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[CreatedAt]

    __table_args__ = (CheckConstraint(f"char_length(reason) <= {REASON_LIMIT}", name="reason"),)
