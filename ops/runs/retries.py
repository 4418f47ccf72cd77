"""Writing the result of an action while the database may be unavailable."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.database import autocommit
from app.repositories.statement import Statement

DATABASE_ERRORS = (DBAPIError, PoolTimeout)


def execute_with_retries(statement: Statement, parameters: Mapping[str, Any], *, seconds: float) -> bool:
    """Execute `statement`, again after a database error; return False if it fails for `seconds`."""
    # Imported now, because commands that only read need no retries.
    from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

    retrying = Retrying(
        retry=retry_if_exception_type(DATABASE_ERRORS),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(0.1, max=2),
    )
    try:
        retrying(_execute, statement, parameters)
    except RetryError:
        return False
    return True


def _execute(statement: Statement, parameters: Mapping[str, Any]) -> None:
    with autocommit() as connection:
        statement.one(connection, parameters)
