from sqlalchemy import CheckConstraint, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, Moment, OwnId, UserOwned


class PasswordReset(Base):
    """A token with which a user sets a new password, once. Stores its SHA-256, never the token."""

    __tablename__ = "password_resets"

    user_id: Mapped[UserOwned]
    id: Mapped[OwnId]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint("octet_length(token_hash) = 32", name="token_hash"),
        Index("ix_password_resets_expires_at", "expires_at"),
    )
