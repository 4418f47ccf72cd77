"""Checking the copies of users' files: all are present and have their size, and a random sample has its hash.

Reading all contents of a large installation takes hours, so that is done on request only.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.storage.base import Store
from app.storage.errors import FileNotFoundInStorage, StoredFileChanged
from app.storage.sorting import SizesByName, sorted_by_name
from ops.backup.errors import BackupDamaged, RestoreFailed
from ops.backup.file_lists import FileEntry, copies_of, read_list
from ops.backup.inventory import Backup, Inventory
from ops.backup.plain_dumps import copy_plain
from ops.backup.stored_reports import limit_problems
from ops.runs.progress import progress

if TYPE_CHECKING:
    from ops.backup.encryption import Identities

SAMPLE, SAMPLE_BYTES = 200, 1024**3  # of a check; a content that is larger than the rest of these bytes is not read
_RANDOM = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class FileCheck:
    """The checked contents of a backup: how many are listed, and how many of them were read and hashed."""

    contents: int
    hashed: int
    problems: tuple[str, ...]


def check_files(
    inventory: Inventory, backup: Backup, *, everything: bool = False, identities: "Identities | None" = None
) -> FileCheck:
    """Check the copies of a backup's contents; with `everything`, hash all of them.

    With private keys, what is hashed is also decrypted. A content that is listed as missing is no damage.
    Raises `StorageUnavailable`.
    """
    copies = copies_of(inventory.store)
    contents = hashed = 0
    problems: list[str] = []
    sample = _Sample()
    try:
        files = inventory.manifest(backup).files
        if files is None:
            return FileCheck(0, 0, ())
        present = SizesByName(sorted_by_name(copies.iterate_files()))
        with progress("Checking files", total=files.contents, unit="contents") as bar:
            for entry in read_list(inventory, backup):
                contents += 1
                bar.advance()
                if entry.stored_sha256 is None:
                    continue
                if present.find(entry.name) != entry.stored_bytes:
                    problems.append(f"the copy of the content {entry.sha256} is missing or has another size")
                elif everything:
                    hashed += 1
                    problems += _damage(copies, entry, identities)
                else:
                    sample.offer(entry)
    except BackupDamaged as error:
        problems.append(error.detail)
    for entry in sample.within_bytes():
        hashed += 1
        problems += _damage(copies, entry, identities)
    return FileCheck(contents, hashed, limit_problems(problems))


def read_copy(copies: Store, entry: FileEntry, write: Callable[[bytes], Any], identities: "Identities | None") -> None:
    """Write the content of a copy. At its end, raises `BackupDamaged` if its size or SHA-256 differs.

    Also raises `BackupDamaged` for a copy that is missing or cannot be decrypted. Errors of `write` pass through.
    """
    digest, size = hashlib.sha256(), 0

    def hashed(chunk: bytes) -> None:
        nonlocal size
        digest.update(chunk)
        size += len(chunk)
        write(chunk)

    try:
        copy_plain(copies.read(entry.name), hashed, identities if entry.encrypted else None)
    except (FileNotFoundInStorage, StoredFileChanged, RestoreFailed) as error:
        raise BackupDamaged(f"The copy of the content {entry.sha256} cannot be read: {error.detail}") from None
    if (size, digest.hexdigest()) != (entry.bytes, entry.sha256):
        raise BackupDamaged(f"The copy of the content {entry.sha256} is damaged: its SHA-256 differs.")


class _Sample:
    """A random sample of the offered entries, each with the same probability, in bounded memory."""

    def __init__(self) -> None:
        self._entries: list[FileEntry] = []
        self._offered = 0

    def offer(self, entry: FileEntry) -> None:
        self._offered += 1
        if len(self._entries) < SAMPLE:
            self._entries.append(entry)
        elif (place := _RANDOM.randrange(self._offered)) < SAMPLE:
            self._entries[place] = entry

    def within_bytes(self) -> Iterator[FileEntry]:
        rest = SAMPLE_BYTES
        for entry in self._entries:
            if entry.stored_bytes <= rest:
                rest -= entry.stored_bytes
                yield entry


def _damage(copies: Store, entry: FileEntry, identities: "Identities | None") -> list[str]:
    """Return the problem of a copy, or an empty list. Without private keys, an encrypted copy is compared as it is."""
    try:
        if not entry.encrypted or identities is not None:
            read_copy(copies, entry, lambda chunk: None, identities)
            return []
        digest = hashlib.sha256()
        for chunk in copies.read(entry.name):
            digest.update(chunk)
    except (BackupDamaged, FileNotFoundInStorage, StoredFileChanged) as error:
        return [error.detail]
    same = digest.hexdigest() == entry.stored_sha256
    return [] if same else [f"The copy of the content {entry.sha256} is damaged: its SHA-256 differs."]
