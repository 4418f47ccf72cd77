"""The end of statements of a call that is cancelled: PostgreSQL stops what runs, and nothing of it is stored.

A call waits for a locked row, or searches many rows, for as long as `lock_timeout` and `statement_timeout` allow.
Inside `interruptible_by(token)`, the sessions of services stop with `token`: the backend is cancelled through the
connection of the heartbeats, so that a pool that is exhausted by waiting calls does not prevent it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app.database import autocommit, current_engines, sqlstate
from app.errors import CallCancelled, Locked
from app.lock_waits import locked_object, waited_for_lock
from app.outbound.cancellation import CancelToken
from app.repositories.statement import Statement

# Ambient, because tools call services of any signature (docs/adr/0021-ambient-values.md).
_token: ContextVar[CancelToken | None] = ContextVar("cancel_token", default=None)

_CANCEL = Statement("backends.cancel", "SELECT pg_cancel_backend(%(pid)s)")
_PAUSE = 0.2  # seconds between two attempts: a cancel is without effect between two statements of a transaction
_QUERY_CANCELED = "57014"


@contextmanager
def interruptible_by(token: CancelToken) -> Iterator[None]:
    """End the sessions of services that the block opens when `token` is cancelled. They raise `CallCancelled`."""
    previous = _token.set(token)
    try:
        yield
    finally:
        _token.reset(previous)


@contextmanager
def interruptible(session: Session, *, commits: bool) -> Iterator[None]:
    """Run the block with `session`, whose statements end when the ambient token is cancelled, if there is one.

    Raises `CallCancelled` then, and `Locked` after the lock timeout. `commits`: a transaction ends after the block, and
    is rolled back then.
    """
    token = _token.get()
    if token is None:
        yield
        return
    interruption = _Interruption(session.connection(), current_engines()["heartbeats"])
    token.attach(interruption.begin)
    try:
        _raise_if_cancelled(token)
        yield
        if commits:
            _raise_if_cancelled(token)
    except DBAPIError as error:
        if token.cancelled and sqlstate(error) == _QUERY_CANCELED:
            raise CallCancelled from None
        if waited_for_lock(error):  # a sentence for the model, which may try again
            raise Locked.of(locked_object(error)) from None
        raise
    finally:
        token.detach()
        interruption.end()


def _raise_if_cancelled(token: CancelToken) -> None:
    if token.cancelled:
        raise CallCancelled


class _Interruption:
    """Cancels what the backend of a connection runs, again and again until its end, in a thread of its own."""

    def __init__(self, connection: Connection, engine: Engine) -> None:
        self._connection, self._pooled, self._engine = connection, connection.connection, engine
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="interruption", daemon=True)
            with suppress(RuntimeError):  # the system allows no more threads: the statement ends by its timeouts
                self._thread.start()

    def end(self) -> None:
        """Wait for the end of the thread. The connection is not used again: a late cancel would hit another call."""
        if self._thread is None:
            return
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._connection.invalidate()

    def _run(self) -> None:
        while not self._ended.is_set():
            driver: Any = self._pooled.dbapi_connection
            if driver is None or driver.is_pooled:  # a pooler's process id is not that of a backend
                return
            with suppress(DBAPIError, PoolTimeout), autocommit(self._engine) as connection:
                _CANCEL.one(connection, {"pid": driver.get_backend_pid()})
            self._ended.wait(_PAUSE)
