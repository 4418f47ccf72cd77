"""Exclusive operations: a named lease in a row, which its holder renews while it works.

An advisory lock would belong to a session, and behind a pooler there is none. The lease of a process that was killed
ends after `SECONDS`.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit, current_engine
from app.ids import new_id
from app.repositories import leases as sql
from ops.errors import AlreadyRunning, LeaseLost

SECONDS = 15.0  # that a lease lasts without being renewed
RENEWAL_SECONDS = 2.0
_POLL_SECONDS = 0.2

_log = logging.getLogger("parley.ops")


class Lease:
    """A lease that this process holds; a thread renews it."""

    def __init__(self, engine: Engine, name: str, holder: UUID) -> None:
        self.name = name
        self._engine = engine
        self._parameters: Mapping[str, Any] = {"name": name, "holder": holder, "seconds": SECONDS}
        self._released = threading.Event()
        self._is_lost = False
        self._thread = threading.Thread(target=self._renew, name=f"lease-{name}", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether this process still holds the lease, as far as its last renewal has shown."""
        return not self._is_lost

    def require(self) -> None:
        """Raise `LeaseLost` if another process has taken the lease, because this one could not renew it in time."""
        if self._is_lost:
            raise LeaseLost(f"The lease {self.name} was lost to another process, so this run stops.")

    def release(self) -> None:
        """Stop to renew the lease, and delete it. If the database is away, it ends by itself."""
        self._released.set()
        self._thread.join()
        with suppress(SQLAlchemyError), autocommit(self._engine) as connection:
            sql.RELEASE.one(connection, self._parameters)

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL_SECONDS) and not self._is_lost:
            try:
                with autocommit(self._engine) as connection:
                    self._is_lost = sql.RENEW.one(connection, self._parameters) is None
            except SQLAlchemyError:
                _log.warning("the lease %s could not be renewed; it is tried again", self.name)
        if self._is_lost:
            _log.error("the lease %s was lost to another process", self.name)


@contextmanager
def try_lease(name: str) -> Iterator[Lease | None]:
    """Hold the lease during the block; yield None if another process holds it.

    To find out whether its holder lives takes up to `RENEWAL_SECONDS`, and if it does not, up to `SECONDS`. Raises
    SQLAlchemy's errors if the database is unavailable.
    """
    engine, holder = current_engine(), new_id()
    if not _take(engine, name, holder):
        yield None
        return
    lease = Lease(engine, name, holder)
    try:
        yield lease
    finally:
        lease.release()


@contextmanager
def exclusive_lease(name: str, busy: str) -> Iterator[Lease]:
    """Hold the lease during the block. Raises `AlreadyRunning(busy)` if another process holds it."""
    with try_lease(name) as lease:
        if lease is None:
            raise AlreadyRunning(busy)
        yield lease


def is_leased(name: str) -> bool:
    """Return whether a process holds the lease; true also for a killed one, until the lease ends."""
    with autocommit() as connection:
        return sql.HELD.one(connection, {"name": name}) is not None


def _take(engine: Engine, name: str, holder: UUID) -> bool:
    """Take the lease. Return False as soon as its present holder has renewed it."""
    first: Any = None
    while True:
        with autocommit(engine) as connection:
            if sql.TAKE.one(connection, {"name": name, "holder": holder, "seconds": SECONDS}) is not None:
                return True
            held = sql.HELD.one(connection, {"name": name})
        if held is not None and first is not None and held != first:
            return False
        first = held or first
        time.sleep(_POLL_SECONDS)
