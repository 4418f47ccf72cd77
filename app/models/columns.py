"""Column shapes that several entities share."""

import enum
from datetime import datetime
from typing import Annotated
from uuid import UUID

import uuid_utils.compat
from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Uuid, func
from sqlalchemy.orm import mapped_column


def new_id() -> UUID:
    """A UUIDv7: not guessable, and ordered by time, so that index pages fill one after the other."""
    return uuid_utils.compat.uuid7()


def one_of(column: str, values: type[enum.StrEnum]) -> CheckConstraint:
    """A CHECK that `column` holds one of `values`; unlike a PostgreSQL enum it can change inside a transaction."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


# The owner's id leads every owned table's primary key, so that isolation is in the keys.
OwnerId = Annotated[UUID, mapped_column(Uuid, primary_key=True)]
OwnId = Annotated[UUID, mapped_column(Uuid, primary_key=True, default=new_id)]
UserOwned = Annotated[UUID, mapped_column(Uuid, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
UpdatedAt = Annotated[
    datetime,
    # Clocks step back: a row must not claim a change before its creation, nor before its last change.
    mapped_column(DateTime(timezone=True), server_default=func.now()),
]
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]
