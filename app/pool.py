"""The pool of database connections, measured from inside.

SQLAlchemy's checkout event comes after the wait, and not at all when the wait was in vain; so what somebody waits for,
and for how long, can only be seen in `connect`. A connection's use ends when its record comes back, whatever became of
the connection: closed, invalidated, detached, or forgotten and collected.
"""

import time
from contextlib import suppress
from typing import Any

from gevent import monkey
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool
from sqlalchemy.util.queue import Empty

from app.metrics import db as metrics

# gevent's own lock costs ten times as much, and nobody waits or switches while he holds this one. It may be taken
# twice: the garbage collector may give a forgotten connection back in the midst of it.
_RLock = monkey.get_original("threading", "RLock")
PATIENCE = 0.05  # seconds
_TAKEN = "parley.taken"  # in a record's own dictionary: when its connection was given out


class MeasuredPool(QueuePool):
    """A QueuePool that records waits, uses, timeouts and how many connections there are."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._recording = _RLock()
        self._recorded_overflow: int | None = None
        self._disposed = False
        metrics.record_pool_max(self.size() + self._max_overflow)
        self._record_state()

    def connect(self) -> PoolProxiedConnection:
        """A connection. Raises SQLAlchemy's TimeoutError when there is none within the pool's timeout."""
        asked = time.perf_counter()
        waits = self.checkedin() == 0
        if waits:
            metrics.record_pool_waiting(1)
        try:
            connection = super().connect()
        except PoolTimeout:
            metrics.record_pool_timeout()
            raise
        finally:
            got = time.perf_counter()
            if waits:
                metrics.record_pool_waiting(-1)
            metrics.record_pool_wait(got - asked)
            self._record_state()
        record_info = connection.record_info
        assert record_info is not None  # noqa: S101  # only a detached connection has none
        record_info[_TAKEN] = got
        return connection

    def dispose(self) -> None:
        """Close the idle connections; those in use are closed as they come back, and are counted no more."""
        super().dispose()
        self._record_state()
        self._disposed = True

    def _do_get(self) -> ConnectionPoolEntry:
        """Wait a moment before a connection is opened beyond the pool's size.

        Opening one takes longer than most statements do and costs both sides ten times as much; and it is closed after
        one use, so a crowd would open one after the other.
        """
        if 0 <= self.overflow() < self._max_overflow:
            with suppress(Empty):
                return self._pool.get(True, min(PATIENCE, self._timeout))
        return super()._do_get()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        info = record.record_info
        taken = info.pop(_TAKEN, None) if info is not None else None
        super()._do_return_conn(record)
        if taken is not None:  # None: it could not be opened
            metrics.record_pool_use(time.perf_counter() - taken)
        self._record_state()

    def _record_state(self) -> None:
        if self._disposed:
            return
        with self._recording:  # who comes last has seen all, and nobody writes older numbers after that
            overflow, idle = self.overflow(), self.checkedin()
            metrics.record_pool_state(self.size() + overflow - idle, idle)
            if overflow != self._recorded_overflow:
                self._recorded_overflow = overflow
                metrics.record_pool_overflow(overflow)
