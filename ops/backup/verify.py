"""Verification of a backup without restoring it: completeness and checksums."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from app.storage.base import Store
from ops.backup.create import read_dump
from ops.backup.errors import BackupDamaged
from ops.backup.inventory import Backup, Inventory
from ops.backup.stored_reports import store_report

PROVES = "the dump is complete and unchanged; only `flask ops backup drill` proves that it can be restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result of a verification. `ok`: no problems. `proves` says what a good result means."""

    name: str
    store: str
    ok: bool
    problems: tuple[str, ...]
    bytes: int
    seconds: float
    proves: str = PROVES


def verify(
    *, store: Store, name: str | None = None, source: str | None = None, everything: bool = False
) -> list[VerifyReport]:
    """Compare the newest backup (of `source`), the named one, or all, with their manifests.

    Stores each result beside its backup. Raises `NoSuchBackup`, and `StorageUnavailable` if the store cannot be read.
    """
    inventory = Inventory.load(store)
    chosen = list(inventory.backups) if everything and inventory.backups else [inventory.find(name, source=source)]
    return [_verify(inventory, backup) for backup in chosen]


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


def _verify(inventory: Inventory, backup: Backup) -> VerifyReport:
    started = time.monotonic()
    problems = check_dump(inventory, backup)
    report = VerifyReport(
        name=backup.name.text,
        store=inventory.store.url,
        ok=not problems,
        problems=tuple(problems),
        bytes=backup.dump.size if backup.dump else 0,
        seconds=round(time.monotonic() - started, 3),
    )
    now = datetime.now(UTC)
    store_report(inventory.store, report.name, "verify", ok=report.ok, at=now, details=asdict(report))
    return report
