"""What a check may look at.

A check is a function of a `Probe` that yields a `Finding` for each thing that is wrong, and nothing if all is well. It
raises `CannotJudge` where it cannot know; what it yielded before is told all the same. It reads and never writes; it
may assume that it is ended in time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from app.config import Settings
from ops.findings import CannotJudge

PATIENCE = timedelta(seconds=5)  # for each statement of a check


@dataclass
class Probe:
    """`settings` of this installation, and its database as an operator sees it.

    `opened` is None where the database cannot be reached; `away` then says why. `pooled_away` says so of the other way
    to it, by DATABASE_URL, once that was tried in vain: each try may wait for the whole timeout.
    """

    settings: Settings
    opened: Connection | None = None
    away: str = "no connection was asked for"
    pooled_away: str | None = None

    @property
    def connection(self) -> Connection:
        """A connection past any pooler, in AUTOCOMMIT, read-only, with `PATIENCE` for each statement.

        Raises `CannotJudge` where the database cannot be reached.
        """
        if self.opened is None:
            raise CannotJudge(
                f"The database cannot be reached: {self.away.rstrip('.?')}.",
                remedy="flask ops doctor --only connection",
            )
        return self.opened

    @property
    def version(self) -> int:
        """The server's major version, such as 15."""
        major: int = self.connection.connection.server_version // 10_000
        return major

    @property
    def now(self) -> datetime:
        """By the database's clock, to which everything in there is due: a host's own may be wrong."""
        moment: datetime = self.connection.exec_driver_sql("SELECT /* ops.now */ clock_timestamp()").scalar_one()
        return moment.astimezone(UTC)

    @contextmanager
    def patience(self, span: timedelta) -> Iterator[None]:
        """Statements inside may take so long."""
        set_patience(self.connection, span)
        try:
            yield
        finally:
            if not self.connection.invalidated and not self.connection.closed:
                set_patience(self.connection, PATIENCE)


def set_patience(connection: Connection, span: timedelta) -> None:
    """Bound each statement of this connection, from now on."""
    connection.exec_driver_sql("SELECT set_config('statement_timeout', %(span)s, false)", {"span": f"{_ms(span)}ms"})


def _ms(span: timedelta) -> int:
    return max(1, round(span.total_seconds() * 1000))
