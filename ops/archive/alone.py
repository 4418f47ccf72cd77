"""One archival run, or one undo of a run, at a time."""

from contextlib import AbstractContextManager

from sqlalchemy import Connection

from ops import locks

LOCK = "archive"


def alone() -> AbstractContextManager[Connection]:
    """An AUTOCOMMIT connection past any pooler that holds the archival's lock. Raises `AnotherRunIsUnderWay`."""
    return locks.alone(LOCK, "Another archival is under way; see: flask ops archive status.")


def under_way() -> bool:
    """Whether somebody holds the lock at this moment."""
    with locks.locked(LOCK) as connection:
        return connection is None
