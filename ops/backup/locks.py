"""Once at a time: advisory locks of the database that the backups are of."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.database import direct_connection
from app.repositories.job_runs import LOCK, UNLOCK
from ops.backup.target import unhurried
from ops.errors import AnotherRunIsUnderWay
from ops.runs import lock_key

WRITING, KEEPING = "backup.create", "backup.keep"  # one writes a backup; one reads or removes those there are


@contextmanager
def alone(lock: str, doing: str) -> Iterator[Connection]:
    """A connection past any pooler that holds `lock` for as long as the block lasts.

    Raises `AnotherRunIsUnderWay` if somebody holds it: "`doing` is under way".
    """
    key = {"key": lock_key(lock)}
    with direct_connection() as connection:
        unhurried(connection)
        row = LOCK.one(connection, key)
        if row is None or not row.taken:
            raise AnotherRunIsUnderWay(f"{doing} is under way elsewhere; wait for its end. Nothing was done.")
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):  # the end of the connection gives it back too, a little later
                UNLOCK.one(connection, key)
