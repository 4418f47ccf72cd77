"""Purge of contents that no file has, and of objects in the store of files that no content has.

The store is asked without a connection held. An object is deleted before the row that says so, and deleting it again is
no error, so a run that is killed is continued by the next one.

While a backup is created, no object is deleted: the backup copies those that its snapshot has. A page of names is read
first and the lock of backups after it, so a backup that begins later has a snapshot without them.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy import Connection

from app.container import current_settings
from app.database import autocommit
from app.repositories import erasure
from app.repositories import files as sql
from app.services.file_store import open_file_store
from app.services.file_texts import queue_missing
from app.services.files import remove_unused
from app.storage.base import Store
from ops.runs.batches import TimeBudget
from ops.runs.locks import CREATE_BACKUP, is_held

# An upload stores its row right after its object; a large file may take hours until then, but is no object before.
UNKNOWN_AFTER = timedelta(hours=24)
_BATCH = 1_000
_OBJECT = re.compile("[0-9a-f]{32}")  # the names that uploads choose; other files in the store stay

_log = logging.getLogger("parley.files")


@dataclass(frozen=True, slots=True)
class FilePurgeReport:
    """Numbers of purged `contents` that no file had, and of deleted `objects`, `unknown` ones among them.

    `unfinished` counts the files of uploads whose process ended. `queued` files of an older release had no text, which
    is extracted now. `more` is true if time ran out or a backup is being
    created; the next run continues. With `dry_run`, the numbers are of what would be deleted.
    """

    contents: int
    objects: int
    unknown: int
    unfinished: int = 0
    queued: int = 0
    more: bool = False
    dry_run: bool = False


def purge_files(*, seconds: float = 540, dry_run: bool = False) -> FilePurgeReport:
    """Delete contents without a file, and objects without a content. Queue files without a text.

    Raises `StorageUnavailable`; what was deleted until then stays deleted.
    """
    budget = TimeBudget(seconds)
    queued = 0 if dry_run else queue_missing()
    contents = objects = unknown = 0
    for user_id, sha256 in _unused():
        if budget.expired:
            break
        contents += dry_run or remove_unused(user_id, sha256)
    store = open_file_store(current_settings())
    try:
        for name in _removals():
            if budget.expired:
                break
            if not dry_run:
                store.delete(name)
                with autocommit() as connection:
                    sql.REMOVED.run(connection, {"object": name})
            objects += 1
        if not dry_run:
            _complete_receipts()
        for name in _unknown(store):
            if budget.expired:
                break
            if not dry_run:
                store.delete(name)
            objects, unknown = objects + 1, unknown + 1
    except _BackupRuns:
        return FilePurgeReport(contents, objects, unknown, queued=queued, more=True, dry_run=dry_run)
    unfinished = 0 if dry_run else store.delete_abandoned(_OBJECT, datetime.now(UTC) - UNKNOWN_AFTER)
    if unknown:
        _log.warning("%d objects of the store of files belonged to no file", unknown)
    return FilePurgeReport(contents, objects, unknown, unfinished, queued, more=budget.expired, dry_run=dry_run)


class _BackupRuns(Exception):
    """A backup is being created."""


def _refuse_backup(connection: Connection) -> None:
    if is_held(connection, CREATE_BACKUP):
        raise _BackupRuns


def _unused() -> Iterator[tuple[UUID, str]]:
    after = (UUID(int=0), "")
    while True:
        with autocommit() as connection:
            parameters = {"user_id": after[0], "sha256": after[1], "batch": _BATCH}
            rows = sql.UNUSED.all(connection, parameters)
        yield from ((row.user_id, row.sha256) for row in rows)
        if len(rows) < _BATCH:
            return
        after = (rows[-1].user_id, rows[-1].sha256)


def _removals() -> Iterator[str]:
    after = ""
    while True:
        with autocommit() as connection:
            rows = sql.REMOVALS.all(connection, {"after": after, "batch": _BATCH})
            if rows:
                _refuse_backup(connection)
        yield from (row.object for row in rows)
        if len(rows) < _BATCH:
            return
        after = rows[-1].object


def _complete_receipts() -> None:
    """Record in the receipts of erasures that all their objects are deleted."""
    with autocommit() as connection:
        erasure.OBJECTS_DELETED.run(connection, {})


def _unknown(store: Store) -> Iterator[str]:
    """Yield the objects of ended uploads that no content refers to, such as one whose process ended before its row."""
    until = datetime.now(UTC) - UNKNOWN_AFTER
    names = (file.name for file in store.iterate_files() if _OBJECT.fullmatch(file.name) and file.stored_at < until)
    while batch := list(islice(names, _BATCH)):
        with autocommit() as connection:
            rows = sql.UNKNOWN_OBJECTS.all(connection, {"objects": batch})
            if rows:
                _refuse_backup(connection)
        yield from (row.object for row in rows)
