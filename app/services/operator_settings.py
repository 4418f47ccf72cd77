"""The settings that operators change at run time, as they are stored; `RuntimeSettings` caches them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit_engine
from app.errors import DatabaseUnavailable
from app.repositories import runtime_settings as sql


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that an operator set, its time, and the operator's user id, if there is one."""

    value: Any
    at: datetime
    by: UUID | None


def read_choices(engine: Engine) -> dict[str, Choice]:
    """Return all of them from the database, by key. Raises `DatabaseUnavailable`."""
    try:
        with autocommit_engine(engine).connect() as connection:
            return {row.key: Choice(row.value, row.updated_at, row.updated_by) for row in sql.ALL.all(connection, {})}
    except SQLAlchemyError as error:
        raise DatabaseUnavailable(f"The runtime settings could not be read: {type(error).__name__}.") from None
