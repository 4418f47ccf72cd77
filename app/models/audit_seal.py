from uuid import UUID

from sqlalchemy import BigInteger, LargeBinary, String, Uuid
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import Moment


class AuditSeal(Base):
    """A seal of audit events: a keyed hash of each of them, and one of all together and of the seal before.

    The numbers have no gaps. Every event that ended before `complete_until` has this seal or an earlier one.
    """

    __tablename__ = "audit_seals"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    sealed_at: Mapped[Moment]
    complete_until: Mapped[Moment]
    key_id: Mapped[str] = mapped_column(String(16))
    event_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    event_hashes: Mapped[bytes] = mapped_column(LargeBinary)  # 16 bytes for each id, in the same order
    hash: Mapped[bytes] = mapped_column(LargeBinary)
