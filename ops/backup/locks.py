"""Exclusive execution of backup operations, by advisory locks in the database that is backed up."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from ops.runs.locks import CREATE_BACKUP, exclusive_lock

# CREATE_LOCK: writing a new backup. STORE_LOCK: reading (drill) or deleting (prune) existing ones.
CREATE_LOCK, STORE_LOCK = CREATE_BACKUP, "backup.keep"


@contextmanager
def backup_lock(lock: str, holder: str) -> Iterator[Connection]:
    """Hold `lock` during the block; yield its connection.

    Raises `OwnSessionRequired` behind a pooler, and `AlreadyRunning` if the lock is held; `holder` begins its message,
    such as "Another backup".
    """
    message = f"{holder} is running. Nothing was done; wait until it ends."
    with exclusive_lock(lock, message) as connection:
        yield connection
