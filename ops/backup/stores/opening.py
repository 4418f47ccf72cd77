"""From the settings to the store."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.config import Settings
from ops.backup.errors import NotSetUp
from ops.backup.stores.base import Store
from ops.backup.stores.folder import Folder
from ops.embedded import URL_WHEN_STARTED
from ops.embedded.site import open_site

FOLDER = "backups"  # in PARLEY_HOME, for the embedded database


def embedded_folder(home: Path) -> Path:
    """The folder for backups of the database that is embedded in `home`; made if missing. Raises `EmbeddedError`."""
    return open_site(home).folder(FOLDER)


def open_store(settings: Settings, *, hasty: bool = False) -> Store:
    """The store that BACKUP_URL names, else a folder beside the embedded database.

    `hasty` is for looking only: a store that does not answer within seconds counts as out of reach. Raises `NotSetUp`
    where neither is to be had; nothing is asked of the store yet.
    """
    backups, url = settings.backups, settings.backups.url
    if url is None:
        if settings.database.url not in (None, URL_WHEN_STARTED):
            raise NotSetUp
        return Folder(embedded_folder(settings.server.home))
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Folder(Path(unquote(parts.path)))
    from ops.backup.stores.s3 import Bucket  # boto3 takes its time to import, and few need it

    key, secret = backups.s3_access_key_id, backups.s3_secret_access_key
    return Bucket(
        parts.netloc,
        parts.path.strip("/"),
        endpoint=backups.s3_endpoint,
        region=backups.s3_region,
        keys=(key.get_secret_value(), secret.get_secret_value()) if key and secret else None,
        hasty=hasty,
    )
