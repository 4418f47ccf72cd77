"""Verification of a backup without restoring it: completeness and checksums."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from app.storage.base import Store
from ops.backup.create import read_dump
from ops.backup.errors import BackupDamaged
from ops.backup.file_checks import FileCheck, check_files
from ops.backup.inventory import Backup, Inventory
from ops.backup.stored_reports import store_report

PROVES = (
    "the dump is complete and unchanged, all contents of files are present, and those that were hashed are unchanged;"
    " only `flask ops backup drill` proves that it can be restored"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result of a verification. `ok`: no problems. `proves` says what a good result means.

    `files` are the listed contents of users' files; `files_missing` of them could not be copied into the backup.
    """

    name: str
    store: str
    ok: bool
    problems: tuple[str, ...]
    bytes: int
    seconds: float
    files: int = 0
    files_hashed: int = 0
    files_missing: int = 0
    proves: str = PROVES


def verify(
    *,
    store: Store,
    name: str | None = None,
    source: str | None = None,
    everything: bool = False,
    all_files: bool = False,
) -> list[VerifyReport]:
    """Compare the newest backup (of `source`), the named one, or all, with their manifests.

    Of the contents of files, a sample is hashed; all with `all_files`.

    Stores each result beside its backup. Raises `NoSuchBackup`, and `StorageUnavailable` if the store cannot be read.
    """
    inventory = Inventory.load(store)
    chosen = list(inventory.backups) if everything and inventory.backups else [inventory.find(name, source=source)]
    return [_verify(inventory, backup, all_files=all_files) for backup in chosen]


def check_dump(inventory: Inventory, backup: Backup) -> list[str]:
    """Read the whole dump; return its first problem, or an empty list. Raises `StorageUnavailable`."""
    try:
        manifest = inventory.manifest(backup)
        if backup.dump is None:
            return [f"{backup.name} has a manifest, but its dump is missing."]
        for _ in read_dump(inventory.store, backup.dump.name, manifest.dump, title=f"Reading {backup.name}"):
            pass
    except BackupDamaged as error:
        return [error.detail]
    return []


def _verify(inventory: Inventory, backup: Backup, *, all_files: bool) -> VerifyReport:
    started = time.monotonic()
    problems = check_dump(inventory, backup)
    files = check_files(inventory, backup, everything=all_files) if not problems else FileCheck(0, 0, ())
    problems += files.problems
    listed = inventory.manifest(backup).files if not problems else None
    report = VerifyReport(
        name=backup.name.text,
        store=inventory.store.url,
        ok=not problems,
        problems=tuple(problems),
        bytes=backup.dump.size if backup.dump else 0,
        seconds=round(time.monotonic() - started, 3),
        files=files.contents,
        files_hashed=files.hashed,
        files_missing=listed.missing if listed else 0,
    )
    now = datetime.now(UTC)
    store_report(inventory.store, report.name, "verify", ok=report.ok, at=now, details=asdict(report))
    return report
