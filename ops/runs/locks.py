"""Advisory locks, for operations that need a session of their own anyway: backups and the application of index plans.

Such a lock lasts exactly as long as its session, and needs no table: a backup is taken before a migration.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.database import own_session
from app.repositories.statement import Statement
from ops.errors import AlreadyRunning

LOCK = Statement("ops.lock", "SELECT pg_try_advisory_lock(%(key)s) AS taken")
UNLOCK = Statement("ops.unlock", "SELECT pg_advisory_unlock(%(key)s) AS released")


def lock_key(name: str) -> int:
    """Return the key of a lock: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"parley.job.{name}".encode()).digest()[:8], signed=True)


@contextmanager
def exclusive_lock(name: str, busy: str) -> Iterator[Connection]:
    """Yield an AUTOCOMMIT connection whose session holds the lock.

    Raises `AlreadyRunning(busy)` if another session holds it, and `OwnSessionRequired` behind a pooler.
    """
    key = {"key": lock_key(name)}
    with own_session() as connection:
        row = LOCK.one(connection, key)
        if row is None or not row.taken:
            raise AlreadyRunning(busy)
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):  # the end of the session releases it too, but later
                UNLOCK.one(connection, key)
