from typing import Any
from uuid import UUID

from sqlalchemy import String, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.extensions import Base
from app.models.columns import UpdatedAt


class RuntimeSetting(Base):
    """A setting that operators change at run time for all processes, such as the provider in use."""

    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB)
    updated_at: Mapped[UpdatedAt]
    updated_by: Mapped[UUID | None] = mapped_column(Uuid)  # the operator; kept when that user is deleted
