"""Once at a time: advisory locks of the database that the backups are of."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from ops import locks
from ops.backup.target import unhurried

WRITING, KEEPING = "backup.create", "backup.keep"  # one writes a backup; one reads or removes those there are


@contextmanager
def alone(lock: str, doing: str) -> Iterator[Connection]:
    """A connection past any pooler that holds `lock` for as long as the block lasts, however long that is.

    Raises `AnotherRunIsUnderWay` if somebody holds it: "`doing` is under way".
    """
    with locks.alone(lock, f"{doing} is under way elsewhere; wait for its end. Nothing was done.") as connection:
        unhurried(connection)
        yield connection
