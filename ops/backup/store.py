"""The store for backups, from the settings."""

from pathlib import Path

from app.config import Settings
from app.storage.base import Store
from app.storage.folder import FolderStore
from app.storage.open import open_store
from ops.backup.errors import BackupsNotConfigured
from ops.embedded import URL_WHEN_STARTED
from ops.embedded.site import open_site

FOLDER = "backups"  # in PARLEY_HOME, for the embedded database
SETTINGS_PREFIX = "BACKUP"


def embedded_backup_folder(home: Path) -> Path:
    """Return the folder for backups of the embedded database in `home`, created if missing. Raises `EmbeddedError`."""
    return open_site(home).folder(FOLDER)


def open_backup_store(settings: Settings, *, quick: bool = False) -> Store:
    """Return the store at BACKUP_URL, or the folder of the embedded database, without connecting to it.

    `quick` is for requests and checks: a store that does not answer within seconds counts as unavailable. Raises
    `BackupsNotConfigured`, and `StorageUnavailable` for invalid S3 settings.
    """
    url = settings.backups.url
    if url is not None:
        return open_store(url, settings.backups, prefix=SETTINGS_PREFIX, quick=quick)
    if settings.database.url not in (None, URL_WHEN_STARTED):
        raise BackupsNotConfigured
    return FolderStore(embedded_backup_folder(settings.server.home), setting=f"{SETTINGS_PREFIX}_URL")
