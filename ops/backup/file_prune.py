"""Pruning of the copies of users' files that no kept backup lists."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from typing import IO

from app.storage.sorting import sorted_by_name
from ops.backup.errors import BackupDamaged
from ops.backup.file_lists import copies_of, read_list
from ops.backup.inventory import Backup, Inventory
from ops.backup.locks import CREATE_LOCK, backup_lock
from ops.errors import AlreadyRunning
from ops.runs.progress import progress

# The copies of a backup that was killed are kept for the next one.
UNLISTED_KEPT = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class PrunedCopies:
    """Number and bytes of the deleted copies; `kept_because` says why none was deleted."""

    contents: int = 0
    bytes: int = 0
    kept_because: str | None = None


def prune_copies(
    inventory: Inventory, kept: Iterable[Backup], source: str, now: datetime, *, dry_run: bool
) -> PrunedCopies:
    """Delete the copies of `source` that none of the `kept` backups lists; with `dry_run`, only count them.

    Nothing is deleted while a backup is created, which may use a copy that no list has yet, and while the list of a
    kept backup cannot be read. Raises `StorageUnavailable`.
    """
    try:
        with backup_lock(CREATE_LOCK, "A backup"):
            listed = merge(*(_names(inventory, backup) for backup in kept))
            with tempfile.TemporaryFile("w+") as others:
                pruned = _find_others(inventory, listed, source, now, others)
                if not dry_run:
                    _delete(inventory, others, pruned.contents)
            return pruned
    except AlreadyRunning:
        return PrunedCopies(kept_because="a backup was being created")
    except BackupDamaged as error:
        return PrunedCopies(kept_because=error.detail)


def _names(inventory: Inventory, backup: Backup) -> Iterator[str]:
    """Yield the names of the copies in a list. Raises `BackupDamaged` if they are not sorted."""
    before = ""
    for entry in read_list(inventory, backup):
        if entry.name < before:
            raise BackupDamaged(f"The list of files of {backup.name} is damaged: it is not sorted.")
        before = entry.name
        yield before


def _find_others(
    inventory: Inventory, listed: Iterable[str], source: str, now: datetime, others: IO[str]
) -> PrunedCopies:
    """Write the names of the copies that are not `listed` to `others`. All lists are read to their ends."""
    names, contents, size = iter(listed), 0, 0
    name: str | None = ""
    copies = (file for file in copies_of(inventory.store).iterate_files() if file.name.startswith(f"{source}-"))
    for file in sorted_by_name(copies):
        while name is not None and name < file.name:
            name = next(names, None)
        if name != file.name and now - file.stored_at > UNLISTED_KEPT:
            others.write(f"{file.name}\n")
            contents, size = contents + 1, size + file.size
    for _ in names:  # a list that is damaged behind this must be found too
        pass
    return PrunedCopies(contents, size)


def _delete(inventory: Inventory, others: IO[str], total: int) -> None:
    copies = copies_of(inventory.store)
    others.seek(0)
    with progress("Pruning files", total=total, unit="contents") as bar:
        for name in others:
            copies.delete(name.removesuffix("\n"))
            bar.advance()
