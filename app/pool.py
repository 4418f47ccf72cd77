"""The pool of database connections, with metrics of waits, uses and timeouts.

SQLAlchemy's `checkout` event fires after the wait, and never if the wait timed out, so `connect` measures it. A use
ends when the connection's record returns to the pool, whether the connection was closed, invalidated, detached or
garbage collected.
"""

import time
from contextlib import suppress
from typing import Any

from gevent import monkey
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool
from sqlalchemy.util.queue import Empty, Queue

from app.metrics import db as metrics

# A native lock: gevent's, and the RLock of `threading` with what gevent has replaced in it, cost ten times as much. It
# is held only for a few instructions, never across a greenlet switch. It is reentrant, because the garbage collector
# can return a lost connection while it is held.
_RLock = monkey.get_original("_thread", "RLock")
OVERFLOW_DELAY = 0.05  # seconds
_CHECKED_OUT = "parley.checked_out"  # key in a record's info: time of the checkout


class MeasuredPool(QueuePool):
    """A QueuePool that records waits, uses, timeouts and the number of connections."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        assert isinstance(self._pool, Queue)  # noqa: S101  # the class that QueuePool documents
        # Its length is the number of idle connections; the pool's own functions take a lock of gevent's to read it.
        self._idle = self._pool.queue
        self._recording = _RLock()
        self._recorded_overflow: int | None = None
        self._disposed = False
        metrics.record_pool_max(self.size() + self._max_overflow)
        self._record_state()

    def connect(self) -> PoolProxiedConnection:
        """Check a connection out. Raises SQLAlchemy's TimeoutError if none is free within the pool's timeout."""
        started = time.perf_counter()
        is_waiting = not self._idle
        if is_waiting:
            metrics.record_pool_waiting(1)
        try:
            connection = super().connect()
        except PoolTimeout:
            metrics.record_pool_timeout()
            raise
        finally:
            finished = time.perf_counter()
            if is_waiting:
                metrics.record_pool_waiting(-1)
            metrics.record_pool_wait(finished - started)
            self._record_state()
        record_info = connection.record_info
        assert record_info is not None  # noqa: S101  # only a detached connection has none
        record_info[_CHECKED_OUT] = finished
        return connection

    def dispose(self) -> None:
        """Close the idle connections. Those in use are closed on return and no longer counted."""
        super().dispose()
        self._record_state()
        self._disposed = True

    def _do_get(self) -> ConnectionPoolEntry:
        """Wait briefly for a free connection before opening one above the pool's size.

        Opening a connection takes longer than most statements, costs both sides ten times as much, and serves one use
        only: without the delay a burst of requests would open one each.
        """
        if 0 <= self.overflow() < self._max_overflow:
            with suppress(Empty):
                return self._pool.get(True, min(OVERFLOW_DELAY, self._timeout))
        return super()._do_get()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        info = record.record_info
        checked_out = info.pop(_CHECKED_OUT, None) if info is not None else None
        super()._do_return_conn(record)
        if checked_out is not None:  # None: the connection could not be opened
            metrics.record_pool_use(time.perf_counter() - checked_out)
        self._record_state()

    def _record_state(self) -> None:
        if self._disposed:
            return
        with self._recording:  # serializes reading and recording, so that no older state overwrites a newer one
            overflow, idle = self.overflow(), len(self._idle)
            metrics.record_pool_state(self.size() + overflow - idle, idle)
            if overflow != self._recorded_overflow:
                self._recorded_overflow = overflow
                metrics.record_pool_overflow(overflow)
