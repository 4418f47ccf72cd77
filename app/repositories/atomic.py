"""One transaction of several statements on an AUTOCOMMIT connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.repositories.statement import Statement

# A statement that waited for a row lock must see the new version of the row, also if the role has another default.
_BEGIN = Statement("transaction.begin", "BEGIN ISOLATION LEVEL READ COMMITTED")
_SET_TIMEOUT = Statement("transaction.statement_timeout", "SELECT set_config('statement_timeout', %(timeout)s, true)")
_COMMIT = Statement("transaction.commit", "COMMIT TRANSACTION")
_ROLLBACK = Statement("transaction.rollback", "ROLLBACK TRANSACTION")


@contextmanager
def atomically(connection: Connection, *, statement_seconds: int | None = None) -> Iterator[None]:
    """Run the block as one transaction, and commit at its end.

    `statement_seconds` is the timeout of its statements, instead of the connection's.
    """
    _BEGIN.run(connection, {})
    if statement_seconds is not None:
        _SET_TIMEOUT.one(connection, {"timeout": f"{statement_seconds}s"})
    try:
        yield
    except BaseException:
        try:
            if not connection.invalidated:
                _ROLLBACK.run(connection, {})
        except DBAPIError:
            connection.invalidate()  # must not return to the pool with an open transaction
        raise
    _COMMIT.run(connection, {})
