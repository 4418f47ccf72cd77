from typing import Any
from uuid import UUID

from sqlalchemy import String, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import UpdatedAt


class RuntimeSetting(Base):
    """A choice of the operator's that holds for every process at once, such as the provider in use."""

    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB)
    updated_at: Mapped[UpdatedAt]
    updated_by: Mapped[UUID | None] = mapped_column(Uuid)  # who; kept when that account is gone
