"""Once at a time: advisory locks of the database, each under a name."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.database import direct_connection
from app.repositories.job_runs import LOCK, UNLOCK
from ops.errors import AnotherRunIsUnderWay


def lock_key(name: str) -> int:
    """The advisory lock of the job, or whatever else must be alone, with that name: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"parley.job.{name}".encode()).digest()[:8], signed=True)


@contextmanager
def locked(name: str) -> Iterator[Connection | None]:
    """An AUTOCOMMIT connection past any pooler that holds the lock until the block ends, or its process does.

    None if somebody else holds it. Raises SQLAlchemy's errors where the database is away.
    """
    key = {"key": lock_key(name)}
    with direct_connection() as connection:
        row = LOCK.one(connection, key)
        if row is None or not row.taken:
            yield None
            return
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):  # the end of the connection gives it back too; what ended that is raised
                UNLOCK.one(connection, key)


@contextmanager
def alone(name: str, busy: str) -> Iterator[Connection]:
    """The connection of `locked`. Raises `AnotherRunIsUnderWay`, in the words of `busy`, if somebody else holds it."""
    with locked(name) as connection:
        if connection is None:
            raise AnotherRunIsUnderWay(busy)
        yield connection
