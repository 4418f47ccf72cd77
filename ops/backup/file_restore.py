"""Bringing the contents of users' files back from a backup into the store of files.

The restored database says which objects it needs. Those that the store has are not written again, so the restore can be
repeated, and continues where one that was killed ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.container import current_settings
from app.database import autocommit
from app.repositories.files import CONTENTS_BY_HASH, COUNT_CONTENTS
from app.services.file_store import open_file_store
from app.storage.base import Store
from ops.backup.errors import BackupDamaged
from ops.backup.file_checks import read_copy
from ops.backup.file_lists import FileEntry, KnownCopies, copies_of, read_list
from ops.backup.inventory import Backup, Inventory
from ops.backup.locks import STORE_LOCK, backup_lock
from ops.backup.plain_dumps import identities_of
from ops.backup.store import open_backup_store
from ops.backup.stored_reports import limit_problems
from ops.runs.progress import progress

if TYPE_CHECKING:
    from ops.backup.encryption import Identities

_BATCH = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRestoreReport:
    """The result of a restore into the store of files `into`, with numbers of contents.

    `ok`: the store has all contents of the database. `present` were there before. `problems` are those of `missing`.
    """

    name: str
    into: str
    ok: bool
    contents: int
    present: int
    restored: int
    restored_bytes: int
    missing: int
    problems: tuple[str, ...]
    dry_run: bool = False


def restore_files(*, name: str, dry_run: bool = False) -> FileRestoreReport:
    """Copy the contents that the store of files lacks from the backup `name`, for the current database.

    With `dry_run`, nothing is copied. Raises `NoSuchBackup`, `BackupDamaged` for its manifest or list,
    `BackupKeyUnusable`, `StorageUnavailable`, and `AlreadyRunning` while a drill or a pruning runs.
    """
    settings = current_settings()
    files = open_file_store(settings)
    with backup_lock(STORE_LOCK, "A drill, a pruning or another restore of files"):
        inventory = Inventory.load(open_backup_store(settings))
        backup = inventory.find(name)
        identities = identities_of(inventory, backup, settings)
        for _ in read_list(inventory, backup):
            pass  # a damaged list is found before anything is copied
        run = _Restore(inventory, backup, files, identities, dry_run=dry_run)
        with progress("Restoring files", total=_count(), unit="contents") as bar:
            for sha256, size, object_ in _contents():
                run.restore(sha256, size, object_)
                bar.advance()
    return run.report()


class _Restore:
    """A running restore."""

    def __init__(
        self,
        inventory: Inventory,
        backup: Backup,
        files: Store,
        identities: "Identities | None",
        *,
        dry_run: bool,
    ) -> None:
        self._name, self._files, self._identities, self._dry_run = backup.name.text, files, identities, dry_run
        self._copies = copies_of(inventory.store)
        self._list = KnownCopies(read_list(inventory, backup))
        self._sizes = {file.name: file.size for file in files.list_files()}
        self._present = self._restored = self._bytes = 0
        self._problems: list[str] = []

    def restore(self, sha256: str, size: int, object_: str) -> None:
        """Bring one object back unless it is present. Contents come sorted by hash."""
        if self._sizes.get(object_) == size:
            self._present += 1
            return
        entry = self._list.find(sha256)
        try:
            if entry is None or (self._dry_run and entry.stored_sha256 is None):
                raise BackupDamaged(f"The content {sha256} is not in the backup.")
            if not self._dry_run:
                self._copy(entry, object_)
        except BackupDamaged as error:
            self._problems.append(error.detail)
            return
        self._restored += 1
        self._bytes += size

    def report(self) -> FileRestoreReport:
        """Return what was done."""
        missing = len(self._problems)
        return FileRestoreReport(
            name=self._name,
            into=self._files.url,
            ok=not missing,
            contents=self._present + self._restored + missing,
            present=self._present,
            restored=self._restored,
            restored_bytes=self._bytes,
            missing=missing,
            problems=limit_problems(self._problems),
            dry_run=self._dry_run,
        )

    def _copy(self, entry: FileEntry, object_: str) -> None:
        self._files.delete_unfinished(object_)  # of a restore that was killed
        if object_ in self._sizes:  # with another size
            self._files.delete(object_)
        with self._files.create(object_) as file:
            read_copy(self._copies, entry, file.write, self._identities)


def _count() -> int:
    with autocommit() as connection:
        row = COUNT_CONTENTS.one(connection, {})
    return int(row.contents) if row is not None else 0


def _contents() -> Iterator[tuple[str, int, str]]:
    """Yield the hash, bytes and object of each content, sorted. No connection is held between two pages."""
    after = ("", "")
    while True:
        with autocommit() as connection:
            parameters = {"sha256": after[0], "object": after[1], "batch": _BATCH}
            rows = CONTENTS_BY_HASH.all(connection, parameters)
        yield from ((row.sha256, row.bytes, row.object) for row in rows)
        if len(rows) < _BATCH:
            return
        after = (rows[-1].sha256, rows[-1].object)
