import enum
from datetime import date
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, Index, String, Uuid, func
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import CreatedAt, UpdatedAt, new_id, one_of


class UserRole(enum.StrEnum):
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"


class UserStatus(enum.StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class User(Base):
    """A person with an account. The email keeps its spelling and is unique without regard to case.

    Without `tokens_per_day` there is no quota, and nothing of it is counted. `tokens_used` is what turns took that
    ended on `tokens_day`, in UTC; what running turns have set aside stands with them, so that it ends as they do.
    """

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(254))  # RFC 5321 allows no longer address in a command
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str] = mapped_column(String(60))  # bcrypt's length
    role: Mapped[str] = mapped_column(String(10), server_default=UserRole.USER)
    status: Mapped[str] = mapped_column(String(10), server_default=UserStatus.ACTIVE)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger)
    tokens_used: Mapped[int | None] = mapped_column(BigInteger)
    tokens_day: Mapped[date | None] = mapped_column(Date)

    __table_args__ = (
        one_of("role", UserRole),
        one_of("status", UserStatus),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
        CheckConstraint("tokens_per_day > 0", name="tokens_per_day"),
        Index("uq_users_email", func.lower(email), unique=True),
    )
