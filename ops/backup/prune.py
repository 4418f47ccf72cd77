"""Pruning of backups: those that no retention rule keeps, and files that aborted runs left."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.container import current_settings
from app.storage.base import StoredFile
from ops.backup.contents import read_origin
from ops.backup.file_prune import PrunedCopies, prune_copies
from ops.backup.inventory import Backup, Inventory
from ops.backup.locks import STORE_LOCK, backup_lock
from ops.backup.names import BackupName, source_id, source_prefix
from ops.backup.retention import Candidate, Decision, decide
from ops.backup.store import open_backup_store
from ops.runs.progress import progress

# Longer than any dump takes: a younger dump without a manifest can belong to a running backup.
ORPHANS_KEPT = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionDecision:
    """The decision on a backup and its reason. `bytes` is the size of all its files."""

    name: str
    taken_at: datetime
    keep: bool
    reason: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    """The result of pruning: numbers of backups, and `orphans`, the files without a manifest that were deleted too.

    With `dry_run`, nothing was deleted. `freed_bytes` counts backups, orphans and the `file_contents`, the copies of
    contents of files that no kept backup lists; `file_contents_kept` says why none of those was deleted.
    """

    store: str
    deleted: int
    kept: int
    freed_bytes: int
    backups: tuple[RetentionDecision, ...]
    orphans: tuple[str, ...]
    dry_run: bool
    file_contents: int = 0
    file_contents_kept: str | None = None


def prune(*, dry_run: bool = False) -> PruneReport:
    """Delete this database's backups, except those that BACKUP_KEEP_* keeps, the newest good and the last drilled one.

    Then the contents of files that none of the kept backups lists. Backups of other databases in the store are not
    touched. Raises `StorageUnavailable`, `AlreadyRunning`.
    """
    settings = current_settings()
    store = open_backup_store(settings)
    with backup_lock(STORE_LOCK, "A drill or another pruning") as connection:
        origin = read_origin(connection)
        source = source_id(origin.system_identifier, origin.database)
        inventory = Inventory.load(store)
        own = {backup.name: backup for backup in inventory.backups if backup.name.source == source}
        candidates = (_candidate(inventory, backup) for backup in own.values())
        decisions = decide(candidates, settings.backups, origin.taken_at)
        orphans = [file for file in inventory.orphans if _is_abandoned(file, source, origin.taken_at)]
        names = [name for decision in decisions if not decision.keep for name in own[decision.name].files]
        names += [orphan.name for orphan in orphans]
        if not dry_run:
            with progress("Pruning", total=len(names)) as bar:
                for name in names:
                    store.delete(name)
                    bar.advance(note=name)
        kept = [own[decision.name] for decision in decisions if decision.keep]
        copies = prune_copies(inventory, kept, source, origin.taken_at, dry_run=dry_run)
    return _report(store.url, decisions, own, orphans, copies, dry_run=dry_run)


def _candidate(inventory: Inventory, backup: Backup) -> Candidate:
    drills = [report for report in inventory.reports([backup], "drill") if report.ok]
    drilled_at = max((report.stored_at for report in drills), default=None)
    return Candidate(backup.name, inventory.problem(backup), drilled_at)


def _is_abandoned(file: StoredFile, source: str, now: datetime) -> bool:
    return file.name.startswith(source_prefix(source)) and now - file.stored_at > ORPHANS_KEPT


def _report(
    store: str,
    decisions: list[Decision],
    own: Mapping[BackupName, Backup],
    orphans: list[StoredFile],
    copies: PrunedCopies,
    *,
    dry_run: bool,
) -> PruneReport:
    deleted = [decision for decision in decisions if not decision.keep]
    return PruneReport(
        store=store,
        deleted=len(deleted),
        kept=len(decisions) - len(deleted),
        freed_bytes=sum(own[decision.name].size for decision in deleted)
        + sum(orphan.size for orphan in orphans)
        + copies.bytes,
        backups=tuple(
            RetentionDecision(
                name=decision.name.text,
                taken_at=decision.name.taken_at,
                keep=decision.keep,
                reason=decision.reason,
                bytes=own[decision.name].size,
            )
            for decision in decisions
        ),
        orphans=tuple(orphan.name for orphan in orphans),
        file_contents=copies.contents,
        file_contents_kept=copies.kept_because,
        dry_run=dry_run,
    )
