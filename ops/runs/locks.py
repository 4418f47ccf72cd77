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

CREATE_BACKUP = "backup.create"  # held while a backup is created

LOCK = Statement("ops.lock", "SELECT pg_try_advisory_lock(%(key)s) AS taken")
UNLOCK = Statement("ops.unlock", "SELECT pg_advisory_unlock(%(key)s) AS released")


HELD = Statement(
    "ops.lock_held",
    """
SELECT EXISTS (SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND objsubid = 1 AND granted
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND classid::bigint = (%(key)s::bigint >> 32) & 4294967295
                  AND objid::bigint = %(key)s::bigint & 4294967295) AS held""",
)


def lock_key(name: str) -> int:
    """Return the key of a lock: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"parley.job.{name}".encode()).digest()[:8], signed=True)


def is_held(connection: Connection, name: str) -> bool:
    """Return whether a session of this database holds the lock. It works behind a pooler too."""
    row = HELD.one(connection, {"key": lock_key(name)})
    return row is not None and bool(row.held)


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
