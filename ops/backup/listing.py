"""The list of backups, for the command line and the admin API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from app.config import Settings
from app.storage.base import Store, StoredFile
from ops.backup.errors import BackupDamaged, BackupsNotConfigured
from ops.backup.inventory import Backup, Inventory
from ops.backup.names import ENCRYPTED_DUMP, BackupName
from ops.backup.store import open_backup_store


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSummary:
    """A backup. The properties of its contents are null if the manifest cannot be read."""

    name: Annotated[str, "Name of the backup."]
    taken_at: Annotated[datetime, "When it was taken."]
    database: Annotated[str | None, "Name of the database."]
    server_version: Annotated[str | None, "Version of the PostgreSQL server."]
    rows: Annotated[int | None, "Number of rows."]
    bytes: Annotated[int, "Size of its files."]
    alembic: Annotated[tuple[str, ...], "Revisions of the schema."]
    encryption: Annotated[str | None, "`age` for an encrypted backup; null otherwise."]
    state: Annotated[str, "`good`, the known problem, or `orphan` for a dump without a manifest."]
    drilled: Annotated[str | None, "Result and time of the last drill; null without one."]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupList:
    """All backups of the store."""

    store: Annotated[str | None, "URL of the store; null if none is set."]
    items: Annotated[tuple[BackupSummary, ...], "The backups, newest first."]
    reason: Annotated[str | None, "What to set if no store is set; null otherwise."] = None


def list_configured_backups(settings: Settings) -> BackupList:
    """Return all backups, with the short timeouts of a web request. Raises `StorageUnavailable`."""
    try:
        store = open_backup_store(settings, quick=True)
    except BackupsNotConfigured as error:
        return BackupList(store=None, items=(), reason=error.detail)
    return BackupList(store=store.url, items=tuple(list_backups(store=store)))


def list_backups(*, store: Store) -> list[BackupSummary]:
    """Return all backups in the store, of every database, newest first, and dumps without a manifest.

    Raises `StorageUnavailable`.
    """
    inventory = Inventory.load(store)
    found = [_summarize(inventory, backup) for backup in inventory.backups]
    found += [_summarize_orphan(name, file) for name, file in inventory.orphan_dumps]
    return sorted(found, key=lambda summary: (summary.taken_at, summary.name), reverse=True)


def _summarize_orphan(name: BackupName, file: StoredFile) -> BackupSummary:
    return BackupSummary(
        name=name.text,
        taken_at=name.taken_at,
        database=None,
        server_version=None,
        rows=None,
        bytes=file.size,
        alembic=(),
        encryption="age" if file.name.endswith(ENCRYPTED_DUMP) else None,
        state="orphan: it has no manifest",
        drilled=None,
    )


def _summarize(inventory: Inventory, backup: Backup) -> BackupSummary:
    try:
        manifest = inventory.manifest(backup)
    except BackupDamaged:
        manifest = None
    drills = inventory.reports([backup], "drill")
    drilled = f"{'ok' if drills[0].ok else 'failed'}, {drills[0].at:%Y-%m-%d %H:%M}" if drills else None
    return BackupSummary(
        name=backup.name.text,
        taken_at=backup.name.taken_at,
        database=manifest.origin.database if manifest else None,
        server_version=manifest.origin.server_version if manifest else None,
        rows=manifest.rows if manifest else None,
        bytes=backup.dump.size if backup.dump else 0,
        alembic=manifest.contents.alembic if manifest else (),
        encryption=manifest.dump.encryption.format if manifest and manifest.dump.encryption else None,
        state=inventory.problem(backup) or "good",
        drilled=drilled,
    )
