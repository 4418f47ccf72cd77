import enum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, String, Uuid, func
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
    """A person with an account. The email keeps its spelling and is unique without regard to case."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True, default=new_id)
    email: Mapped[str] = mapped_column(String(254))  # RFC 5321 allows no longer address in a command
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str] = mapped_column(String(60))  # bcrypt's length
    role: Mapped[str] = mapped_column(String(10), server_default=UserRole.USER)
    status: Mapped[str] = mapped_column(String(10), server_default=UserStatus.ACTIVE)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        one_of("role", UserRole),
        one_of("status", UserStatus),
        CheckConstraint("updated_at >= created_at", name="updated_at"),
        Index("uq_users_email", func.lower(email), unique=True),
    )
