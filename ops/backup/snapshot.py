"""One snapshot of the database that several connections look through: pg_dump's and ours."""

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.repositories.statement import Statement
from ops.backup.contents import read_contents, read_origin
from ops.backup.manifest import Contents, Origin
from ops.backup.target import Target

CANCEL_EVERY = 0.2  # seconds

EXPORT = Statement("backup.export", "SELECT pg_catalog.pg_export_snapshot() AS id")


@dataclass(frozen=True)
class Snapshot:
    """`contents` is being read by a thread of its own, beside the dump.

    Others can only look through a snapshot while the transaction that exported it lasts. It ends as soon as the
    contents are read and `taken` says that nobody else needs it any more: an old snapshot keeps vacuum from its work.
    """

    id: str
    origin: Origin
    contents: "Future[Contents]"
    taken: Event


@contextmanager
def exported(target: Target) -> Iterator[Snapshot]:
    """Export a snapshot and begin to read the contents. At the end of the block, or if it raises, all of that ends."""
    with target.connected() as connection, ThreadPoolExecutor(1, "backup-contents") as threads:
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = EXPORT.one(connection, {})
        assert row is not None  # noqa: S101  # it selects one value
        origin, taken, given_up = read_origin(connection), Event(), Event()
        contents = threads.submit(_read, connection, taken, given_up)
        driver = connection.connection.dbapi_connection  # not to be had from a connection that has broken
        try:
            yield Snapshot(row.id, origin, contents, taken)
        finally:
            given_up.set()
            taken.set()
            _end(driver, contents)


def _read(connection: Connection, taken: Event, given_up: Event) -> Contents:
    def go_on(table: str) -> None:
        if given_up.is_set():
            raise CancelledError(f"before {table}")

    contents = read_contents(connection, each=go_on)
    taken.wait()
    with suppress(SQLAlchemyError):  # who looks through the snapshot by now does so without us
        connection.exec_driver_sql("COMMIT")
    return contents


def _end(driver: Any, contents: "Future[Contents]") -> None:
    """Cancel what the thread is waiting for. Again and again: between two statements there is nothing to cancel."""
    while wait([contents], timeout=CANCEL_EVERY).not_done:
        try:
            driver.cancel()
        except psycopg2.Error:
            return  # the connection has ended, and with it the thread's statement
