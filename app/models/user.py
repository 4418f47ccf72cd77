from datetime import date
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, Index, String, Uuid, func
from sqlalchemy.orm import Mapped, mapped_column

from app.bounds import EMAIL_LIMIT
from app.enums import UserRole, UserStatus
from app.extensions import Base
from app.ids import new_id
from app.models.columns import CreatedAt, UpdatedAt, enum_check


class User(Base):
    """A user. The email keeps its spelling; its normal form, `email_key`, is unique.

    `email_key` is `app.text.address_key` of the email. It is null in rows of a release before it, and the email itself
    if another account had the normal form first.

    Without `tokens_per_day` the user has no quota. `tokens_used` counts turns that ended on `tokens_day`, in UTC. What
    running turns have reserved is in `turns`, so that a reservation ends with its turn.
    """

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(EMAIL_LIMIT))
    email_key: Mapped[str | None] = mapped_column(String(EMAIL_LIMIT))
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str] = mapped_column(String(60))  # bcrypt's length
    role: Mapped[str] = mapped_column(String(10), server_default=UserRole.USER)
    status: Mapped[str] = mapped_column(String(10), server_default=UserStatus.ACTIVE)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    tokens_used: Mapped[int | None] = mapped_column(BigInteger)
    tokens_day: Mapped[date | None] = mapped_column(Date)
    max_bytes: Mapped[int | None] = mapped_column(BigInteger)  # null: USER_MAX_BYTES; 0: no limit

    __table_args__ = (
        enum_check("role", UserRole),
        enum_check("status", UserStatus),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
        CheckConstraint("tokens_per_day > 0", name="tokens_per_day"),
        CheckConstraint("max_bytes >= 0", name="max_bytes"),
        Index("uq_users_email", func.lower(email), unique=True),
        Index("uq_users_email_key", "email_key", unique=True),
    )
