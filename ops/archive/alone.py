"""One archival run, or one undo of a run, at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.database import direct_connection
from app.repositories.job_runs import LOCK, UNLOCK
from ops.errors import AnotherRunIsUnderWay
from ops.runs import lock_key


@contextmanager
def alone() -> Iterator[Connection]:
    """An AUTOCOMMIT connection past any pooler that holds the archival's lock. Raises `AnotherRunIsUnderWay`."""
    key = {"key": lock_key("archive")}
    with direct_connection() as connection:
        row = LOCK.one(connection, key)
        if row is None or not row.taken:
            raise AnotherRunIsUnderWay("Another archival is under way; see: flask ops archive status.")
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):  # the end of the connection gives it back too; what ended that is raised
                UNLOCK.one(connection, key)


def under_way() -> bool:
    """Whether somebody holds the lock at this moment."""
    try:
        with alone():
            return False
    except AnotherRunIsUnderWay:
        return True
