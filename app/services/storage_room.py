"""The room of the database for new messages, which is checked before a turn begins and before an import.

There are two limits: the free space of the database's disk, if that is on this host, and the size of the database,
which the job stats.measure stores once a minute. Requests that free space or end a running turn are not checked.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from app.config import Database
from app.errors import StorageFull
from app.services.runtime_settings import RuntimeSettings
from app.storage.disks import disk_usage

KEY = "storage.measured"  # of the runtime setting: {"database_bytes": 123}
FRESH_SECONDS = 1.0  # for which the free space is not read again


@dataclass(frozen=True, slots=True)
class Room:
    """The measured numbers; None for what is not known or has no limit."""

    free_bytes: int | None
    database_bytes: int | None

    def is_full(self, settings: Database) -> bool:
        """Return whether a limit is reached."""
        too_little = self.free_bytes is not None and self.free_bytes < settings.min_free_bytes
        too_large = (
            settings.max_bytes > 0 and self.database_bytes is not None and self.database_bytes >= settings.max_bytes
        )
        return too_little or too_large


class StorageRoom:
    """The room of one process's database. Thread-safe."""

    def __init__(self, settings: Database, runtime: RuntimeSettings) -> None:
        self._settings, self._runtime = settings, runtime
        self._room, self._until = Room(None, None), 0.0

    def check(self) -> None:
        """Raise `StorageFull` if there is no room."""
        if (error := self.error()) is not None:
            raise error

    def error(self) -> StorageFull | None:
        """Return the error if there is no room. Never raises; a limit that cannot be read does not apply."""
        now = time.monotonic()
        if now >= self._until:
            self._room, self._until = self.measure(), now + FRESH_SECONDS
        return StorageFull() if self._room.is_full(self._settings) else None

    def measure(self) -> Room:
        """Read both numbers."""
        return Room(free_bytes(self._settings.folder), self._database_bytes())

    def _database_bytes(self) -> int | None:
        if not self._settings.max_bytes:
            return None
        choice = self._runtime.get(KEY)
        value = choice.value.get("database_bytes") if choice and isinstance(choice.value, dict) else None
        return value if type(value) is int else None


def free_bytes(folder: Path | None) -> int | None:
    """Return the bytes that an ordinary process may still write to the disk of `folder`; None if it cannot be read."""
    if folder is None:
        return None
    try:
        return disk_usage(folder).free
    except OSError:
        return None
