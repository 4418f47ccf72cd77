"""The backups of the connected database, among all in the store."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from ops.backup.contents import read_origin
from ops.backup.inventory import Backup, Inventory
from ops.backup.names import source_id
from ops.backup.retention import CLOCK_TOLERANCE
from ops.backup.store import open_backup_store
from ops.checks.context import CheckContext


@dataclass(frozen=True, slots=True)
class OwnBackups:
    """The database's backups and the whole inventory; `now` is the database's time."""

    inventory: Inventory
    source: str
    backups: list[Backup]
    now: datetime

    @classmethod
    def load(cls, context: CheckContext, *, quick: bool = False) -> Self:
        """Read the store; `quick` uses short timeouts. Raises `BackupsNotConfigured` and `StorageUnavailable`."""
        origin = read_origin(context.connection)
        source = source_id(origin.system_identifier, origin.database)
        inventory = Inventory.load(open_backup_store(context.settings, quick=quick))
        backups = [backup for backup in inventory.backups if backup.name.source == source]
        return cls(inventory, source, backups, origin.taken_at)

    def newest_good(self) -> Backup | None:
        """Return the newest good backup that is not dated in the future."""
        return self.inventory.newest_good(self.source, until=self.now + CLOCK_TOLERANCE)
