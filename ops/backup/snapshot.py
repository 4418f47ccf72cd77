"""An exported snapshot of the database, shared by pg_dump and the connection that reads the contents."""

from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event
from typing import IO, Any

import psycopg2
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from app.repositories.statement import Statement
from ops.backup.contents import OUTPUT_SETTINGS, copy_file_contents, read_contents, read_origin
from ops.backup.manifest import Contents, Origin
from ops.backup.target import Target

CANCEL_INTERVAL = 0.2  # seconds

EXPORT = Statement("backup.export", "SELECT pg_catalog.pg_export_snapshot() AS id")


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot. A separate thread reads `contents`, and users' file contents, while pg_dump runs.

    A snapshot can be imported only while the exporting transaction is open. That transaction ends as soon as the
    contents are read and the caller has set `imported`, because an old snapshot blocks vacuum.
    """

    id: str
    origin: Origin
    contents: "Future[Contents]"
    imported: Event


@contextmanager
def export_snapshot(target: Target, files: IO[bytes]) -> Iterator[Snapshot]:
    """Export a snapshot and start to read the contents. Both end with the block.

    When `contents` are done, `files` has the lines of `copy_file_contents`.
    """
    with target.connected(OUTPUT_SETTINGS) as connection, ThreadPoolExecutor(1, "backup-contents") as threads:
        connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = EXPORT.one(connection, {})
        assert row is not None  # noqa: S101  # it selects one value
        origin, imported, cancelled = read_origin(connection), Event(), Event()
        contents = threads.submit(_read, connection, files, imported, cancelled)
        driver = connection.connection.dbapi_connection  # a broken connection would not return it later
        try:
            yield Snapshot(row.id, origin, contents, imported)
        finally:
            cancelled.set()
            imported.set()
            _cancel(driver, contents)


def _read(connection: Connection, files: IO[bytes], imported: Event, cancelled: Event) -> Contents:
    def check_cancelled(table: str) -> None:
        if cancelled.is_set():
            raise CancelledError(f"before {table}")

    contents = read_contents(connection, before_table=check_cancelled)
    copy_file_contents(connection, contents.tables, files)
    imported.wait()
    with suppress(SQLAlchemyError):  # pg_dump has imported the snapshot and no longer needs this transaction
        connection.exec_driver_sql("COMMIT")
    return contents


def _cancel(driver: Any, contents: "Future[Contents]") -> None:
    """Cancel the thread's statement repeatedly: a cancel request between two statements has no effect."""
    while wait([contents], timeout=CANCEL_INTERVAL).not_done:
        try:
            driver.cancel()
        except psycopg2.Error:
            return  # the connection is closed, so the thread's statement has failed
