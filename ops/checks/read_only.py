"""Read-only statements that change nothing of their session: each runs in a transaction of its own.

A session may belong to a pooler, which lends it to other clients, and they would get what was set in it.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS
from psycopg2.extensions import cursor as plain_cursor
from sqlalchemy import Connection


class ReadOnlyCursor(plain_cursor):
    """A cursor of a connection in AUTOCOMMIT whose statements are read-only transactions with a timeout."""

    def execute(self, query: Any, vars: Any = None) -> None:
        """Run the statement. Inside an open transaction, it is a part of that."""
        if self.connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            super().execute(query, vars)
            return
        try:
            super().execute(f"{_begin(self.connection)}; {query}", vars)  # one round trip
        finally:
            _end(self.connection)


def make_read_only(connection: Connection, limit: timedelta) -> None:
    """Let each statement of an AUTOCOMMIT connection be a read-only transaction that takes at most `limit`."""
    driver: Any = connection.connection.dbapi_connection
    driver.cursor_factory = ReadOnlyCursor
    set_statement_timeout(connection, limit)


def set_statement_timeout(connection: Connection, limit: timedelta) -> None:
    """Limit the later statements of a read-only connection."""
    driver: Any = connection.connection.dbapi_connection
    driver.statement_ms = max(1, round(limit.total_seconds() * 1000))


@contextmanager
def read_only_transaction(connection: Connection) -> Iterator[None]:
    """Run the block as one transaction, which is rolled back at its end."""
    driver: Any = connection.connection.dbapi_connection
    with closing(driver.cursor(cursor_factory=plain_cursor)) as cursor:
        cursor.execute(_begin(driver))
    try:
        yield
    finally:
        _end(driver, "ROLLBACK")


def _begin(driver: Any) -> str:
    return f"BEGIN READ ONLY; SET LOCAL statement_timeout = {driver.statement_ms}"


def _end(driver: Any, verb: str = "COMMIT") -> None:
    """End the transaction, if the connection still lives. After an error, COMMIT rolls back too."""
    status = TRANSACTION_STATUS_IDLE if driver.closed else driver.get_transaction_status()
    if status == TRANSACTION_STATUS_IDLE:
        return
    with closing(driver.cursor(cursor_factory=plain_cursor)) as cursor:
        try:
            cursor.execute(verb)
        except psycopg2.Error:
            if status == TRANSACTION_STATUS_INTRANS:  # otherwise the first error is the cause
                raise
