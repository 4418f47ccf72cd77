"""Column types and constraints that several models share."""

import enum
from datetime import datetime
from typing import Annotated
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Uuid, func
from sqlalchemy.orm import mapped_column

from app.ids import new_id


def enum_check(column: str, values: type[enum.StrEnum]) -> CheckConstraint:
    """Return a CHECK that `column` has one of `values`. Unlike a PostgreSQL enum, it can change in a transaction."""
    literals = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({literals})", name=column)


# The primary key of each table that users own begins with the owner's id, so the keys isolate users.
OwnerId = Annotated[UUID, mapped_column(Uuid, primary_key=True)]
OwnId = Annotated[UUID, mapped_column(Uuid, primary_key=True, default=new_id)]
UserOwned = Annotated[UUID, mapped_column(Uuid, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
UpdatedAt = Annotated[
    datetime,
    # Writers take the greatest of now() and the old value, because clocks can step back.
    mapped_column(DateTime(timezone=True), server_default=func.now()),
]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
