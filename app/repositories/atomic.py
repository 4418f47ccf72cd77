"""Several statements of an AUTOCOMMIT connection as one transaction, for those who have that one connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.repositories.statement import Statement

# Statements that wait for a row's lock count on seeing that row as it is afterwards, whatever the role's default is.
_BEGIN = Statement("transaction.begin", "BEGIN ISOLATION LEVEL READ COMMITTED")
_COMMIT = Statement("transaction.commit", "COMMIT TRANSACTION")
_ROLLBACK = Statement("transaction.rollback", "ROLLBACK TRANSACTION")


@contextmanager
def atomically(connection: Connection) -> Iterator[None]:
    """What happens inside stands or falls together; commits at the end."""
    _BEGIN.run(connection, {})
    try:
        yield
    except BaseException:
        try:
            if not connection.invalidated:
                _ROLLBACK.run(connection, {})
        except DBAPIError:
            connection.invalidate()  # never back to the pool with a transaction open
        raise
    _COMMIT.run(connection, {})
