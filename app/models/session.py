from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, Moment, OwnId, UserOwned


class Session(Base):
    """One login. Stores the SHA-256 of its current and its previous refresh token, never the tokens.

    `first_successor_hash` is set if the previous token was replaced a second time because its first successor had never
    been presented. That successor is valid until the current token is presented.
    """

    __tablename__ = "sessions"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    refresh_hash: Mapped[bytes] = mapped_column(LargeBinary)
    previous_refresh_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    first_successor_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    rotated_at: Mapped[Moment]
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[Moment]
    user_agent: Mapped[str | None] = mapped_column(String(255))
    address: Mapped[str | None] = mapped_column(String(45))  # the longest text of an IPv6 address
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("octet_length(refresh_hash) = 32", name="refresh_hash"),
        Index("ix_sessions_expires_at", "expires_at"),
    )
