"""Pruning of the copies of users' files that no kept backup lists."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

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
            listed = {entry.name for backup in kept for entry in read_list(inventory, backup)}
            return _delete_others(inventory, listed, source, now, dry_run=dry_run)
    except AlreadyRunning:
        return PrunedCopies(kept_because="a backup was being created")
    except BackupDamaged as error:
        return PrunedCopies(kept_because=error.detail)


def _delete_others(
    inventory: Inventory, listed: set[str], source: str, now: datetime, *, dry_run: bool
) -> PrunedCopies:
    copies = copies_of(inventory.store)
    others = [
        file
        for file in copies.list_files()
        if file.name.startswith(f"{source}-") and file.name not in listed and now - file.stored_at > UNLISTED_KEPT
    ]
    if not dry_run:
        with progress("Pruning files", total=len(others), unit="contents") as bar:
            for file in others:
                copies.delete(file.name)
                bar.advance()
    return PrunedCopies(len(others), sum(file.size for file in others))
