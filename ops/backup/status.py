"""The state of backups: the newest one, the last drill, what a loss would cost now, and unfinished restores."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from app.config import Settings
from app.database import direct_connection
from ops.backup.contents import read_origin
from ops.backup.errors import BackupDamaged, BackupsNotConfigured
from ops.backup.inventory import Backup, Inventory
from ops.backup.marks import UnfinishedRestore, unfinished_restores
from ops.backup.names import source_id
from ops.backup.retention import CLOCK_TOLERANCE
from ops.backup.store import open_backup_store
from ops.backup.wal_archiving import describe_loss, read_wal_archiving


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOverview:
    """The state of the backups of this database."""

    store: Annotated[str | None, "URL of the store; null if none is set."]
    backups: Annotated[int, "Number of backups of this database."]
    newest: Annotated[str | None, "Name of the newest good backup."]
    taken_at: Annotated[datetime | None, "When it was taken."]
    encryption: Annotated[str | None, "`age` if it is encrypted; null otherwise."]
    drilled_at: Annotated[datetime | None, "When the last drill began; null without one."]
    drill_ok: Annotated[bool | None, "Whether the last drill succeeded; null without one."]
    wal_archived: Annotated[bool, "Whether the server archives WAL, and the last attempt succeeded."]
    loss: Annotated[str, "What the loss of the database server would cost now, as a sentence."]
    unfinished_restores: Annotated[tuple[UnfinishedRestore, ...], "Databases that a restore left which was cut off."]


def backup_status(settings: Settings, *, quick: bool = False) -> BackupOverview:
    """Read the store and the database; `quick` uses the short timeouts of a web request.

    Raises `StorageUnavailable`, and `DBAPIError` if the database does not answer.
    """
    with direct_connection() as connection:
        origin = read_origin(connection)
        archiving = read_wal_archiving(connection)
        unfinished = tuple(unfinished_restores(connection))
    try:
        inventory = Inventory.load(open_backup_store(settings, quick=quick))
    except BackupsNotConfigured:
        inventory = None
    source = source_id(origin.system_identifier, origin.database)
    own = [backup for backup in inventory.backups if backup.name.source == source] if inventory else []
    newest = inventory.newest_good(source, until=origin.taken_at + CLOCK_TOLERANCE) if inventory else None
    drills = inventory.reports(own, "drill") if inventory else []
    last = max(drills, key=lambda report: report.stored_at, default=None)
    return BackupOverview(
        store=inventory.store.url if inventory else None,
        backups=len(own),
        newest=newest.name.text if newest else None,
        taken_at=newest.name.taken_at if newest else None,
        encryption=_encryption(inventory, newest) if inventory and newest else None,
        drilled_at=last.at if last else None,
        drill_ok=last.ok if last else None,
        wal_archived=archiving.enabled and archiving.last_archived_at is not None and not archiving.failing,
        loss=describe_loss(archiving, newest.name.taken_at if newest else None),
        unfinished_restores=unfinished,
    )


def _encryption(inventory: Inventory, backup: Backup) -> str | None:
    try:
        encryption = inventory.manifest(backup).dump.encryption
    except BackupDamaged:
        return None
    return encryption.format if encryption else None
