"""Copying the contents of users' files into the store of backups: each content once, by its hash.

A copy appears only when it is complete, so a run that is killed is continued by the next one. A content that cannot be
read is listed as missing, and the backup continues: a database without some of its files is better than no backup.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from app.storage.base import Store
from app.storage.errors import StorageError, StorageUnavailable
from app.storage.sorting import SizesByName, sorted_by_name
from ops.backup.errors import BackupDamaged
from ops.backup.file_lists import FileEntry, KnownCopies, copy_name
from ops.runs.batches import TimeBudget
from ops.runs.progress import progress

GIVE_UP_AFTER = 3  # failures of the store of files in succession: it is away

Row = tuple[str, int, str]  # SHA-256, bytes, object


@dataclass(slots=True)
class CopyCounts:
    """Numbers of copied contents and their bytes, and why the first one of the missing ones could not be copied."""

    copied: int = 0
    bytes: int = 0
    problem: str | None = None
    failures: int = field(default=0, repr=False)


class _Unreadable(Exception):
    """A content that cannot be read from the store of files. `away`: the store did not answer."""

    def __init__(self, reason: str, *, away: bool = False) -> None:
        super().__init__(reason)
        self.away = away


@dataclass
class FileCopier:
    """A run that copies contents from `files`, a function that opens their store, to `copies`."""

    files: Callable[[], Store]
    copies: Store
    source: str
    recipients: Sequence[str]
    known: KnownCopies
    budget: TimeBudget
    counts: CopyCounts = field(default_factory=CopyCounts)

    def run(self, rows: Iterable[Row], total: int) -> Iterator[FileEntry]:
        """Yield the entry of each content, once its copy is stored. `rows` are sorted by hash.

        Raises `StorageUnavailable` for the store of backups.
        """
        prefix = f"{self.source}-"
        self.copies.delete_unfinished(prefix)
        present = SizesByName(
            sorted_by_name(file for file in self.copies.iterate_files() if file.name.startswith(prefix))
        )
        with progress("Copying files", total=total, unit="contents") as bar:
            for sha256, group in groupby(rows, key=itemgetter(0)):
                same = list(group)
                yield self._entry(sha256, same, present)
                bar.advance(len(same))

    def _entry(self, sha256: str, rows: Sequence[Row], present: SizesByName) -> FileEntry:
        size, name = rows[0][1], copy_name(self.source, sha256, self.recipients)
        missing = FileEntry(sha256, size, name)
        known = self.known.find(sha256)
        if (present_size := present.find(name)) is not None:
            if known is not None and known.name == name and known.stored_bytes == present_size and known.stored_sha256:
                return known
            if (adopted := self._adopted(missing, present_size)) is not None:
                return adopted
            self.copies.delete(name)
        for _, _, object_ in rows:
            if self.counts.failures >= GIVE_UP_AFTER or self.budget.expired:
                self._note("there was no time for all contents; the next backup goes on")
                break
            try:
                entry = self._copy(missing, object_)
            except _Unreadable as error:
                self.counts.failures = self.counts.failures + 1 if error.away else 0
                self._note(str(error))
            else:
                self.counts.failures = 0
                self.counts.copied += 1
                self.counts.bytes += size
                return entry
        return missing

    def _note(self, problem: str) -> None:
        self.counts.problem = self.counts.problem or problem

    def _adopted(self, entry: FileEntry, size: int) -> FileEntry | None:
        """Return the entry of a copy that no list has, such as one of a killed run, or None if it is damaged."""
        if not entry.encrypted and size != entry.bytes:
            return None
        digest = hashlib.sha256()
        for chunk in self.copies.read(entry.name):
            digest.update(chunk)
        stored = digest.hexdigest()
        if not entry.encrypted and stored != entry.sha256:
            return None
        return FileEntry(entry.sha256, entry.bytes, entry.name, size, stored)

    def _copy(self, entry: FileEntry, object_: str) -> FileEntry:
        """Copy an object and read the copy back. Raises `_Unreadable` for the object, `BackupDamaged` for the copy."""
        stored, size = hashlib.sha256(), 0
        with self.copies.create(entry.name) as file:

            def write(chunk: bytes) -> None:
                nonlocal size
                stored.update(chunk)
                file.write(chunk)
                size += len(chunk)

            if self.recipients:
                from ops.backup.encryption import encrypt  # only where backups are encrypted

                encrypt(self._read(entry, object_), write, self.recipients)
            else:
                for chunk in self._read(entry, object_):
                    write(chunk)
        copy = FileEntry(entry.sha256, entry.bytes, entry.name, size, stored.hexdigest())
        again = hashlib.sha256()
        for chunk in self.copies.read(entry.name):
            again.update(chunk)
        if again.hexdigest() != copy.stored_sha256:
            self.copies.delete(entry.name)
            raise BackupDamaged(f"{entry.name} in {self.copies.url} is not what was written: its SHA-256 differs.")
        return copy

    def _read(self, entry: FileEntry, object_: str) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in self.files().read(object_):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
        except StorageUnavailable as error:
            raise _Unreadable(error.detail, away=True) from None
        except StorageError as error:  # missing, or replaced while it was read
            raise _Unreadable(error.detail) from None
        if (size, digest.hexdigest()) != (entry.bytes, entry.sha256):
            raise _Unreadable(f"The object {object_} in the store of files is damaged: its SHA-256 differs.")
