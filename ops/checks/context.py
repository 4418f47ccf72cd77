"""The context of a check: the settings, and a read-only connection to the database."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.container import current_settings
from app.database import direct_connection, driver_message
from ops.checks.read_only import make_read_only, read_only_transaction, set_statement_timeout
from ops.errors import UnknownState

STATEMENT_TIMEOUT = timedelta(seconds=5)  # for each statement of a check

_log = logging.getLogger("parley.ops")


@dataclass
class CheckContext:
    """The settings and the database connection that a check reads.

    `open_connection` is None where the database cannot be reached; `connection_error` then has the reason.
    `pooled_connection_error` is the reason for DATABASE_URL, once one attempt has failed: each may take the whole
    connect timeout.
    """

    settings: Settings
    open_connection: Connection | None = None
    connection_error: str = "no connection was requested"
    pooled_connection_error: str | None = None

    @property
    def connection(self) -> Connection:
        """A direct connection in AUTOCOMMIT. Each statement is a read-only transaction of at most `STATEMENT_TIMEOUT`.

        Nothing is set in its session, which may belong to a pooler. Raises `UnknownState` if the database cannot be
        reached.
        """
        if self.open_connection is None:
            raise UnknownState(
                f"The database cannot be reached: {self.connection_error.rstrip('.?')}.",
                remedy="flask ops doctor --only connection",
            )
        return self.open_connection

    @property
    def version(self) -> int:
        """The server's major version, such as 15."""
        major: int = self.connection.connection.server_version // 10_000
        return major

    @property
    def now(self) -> datetime:
        """The database's time: stored timestamps refer to it, and a host's own clock may be wrong."""
        moment: datetime = self.connection.exec_driver_sql("SELECT /* ops.now */ clock_timestamp()").scalar_one()
        return moment.astimezone(UTC)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block's statements as one read-only transaction, each in one round trip."""
        with read_only_transaction(self.connection):
            yield

    @contextmanager
    def statement_timeout(self, limit: timedelta) -> Iterator[None]:
        """Use another statement timeout inside the block."""
        set_statement_timeout(self.connection, limit)
        try:
            yield
        finally:
            if not self.connection.invalidated and not self.connection.closed:
                set_statement_timeout(self.connection, STATEMENT_TIMEOUT)


@contextmanager
def open_check_context() -> Iterator[CheckContext]:
    """Open a context, with a connection if the database can be reached."""
    settings = current_settings()
    with ExitStack() as stack:
        try:
            context = CheckContext(settings, _open_read_only(stack))
        except Exception as error:  # also errors of the embedded server, which starts on first use
            context = CheckContext(settings, connection_error=driver_message(error))
        yield context


def _open_read_only(stack: ExitStack) -> Connection:
    opening = direct_connection()
    connection = opening.__enter__()
    stack.callback(_close, opening)
    make_read_only(connection, STATEMENT_TIMEOUT)
    return connection


def _close(opening: AbstractContextManager[Connection]) -> None:
    try:
        opening.__exit__(None, None, None)
    except SQLAlchemyError:
        _log.debug("the connection of the check context broke before it was closed")
