"""The store of uploaded files, from the settings."""

from app.config import Settings
from app.storage.base import Store
from app.storage.errors import StorageUnavailable
from app.storage.folder import FolderStore
from app.storage.open import open_store

FOLDER = "files"  # in PARLEY_HOME
SETTINGS_PREFIX = "FILES"


def open_file_store(settings: Settings, *, quick: bool = False) -> Store:
    """Return the store at FILES_URL, or the folder in PARLEY_HOME, which is created, without connecting to it.

    With `quick`, a store that does not answer within seconds counts as unavailable. Raises `StorageUnavailable` for
    invalid S3 settings and for a folder that cannot be created.
    """
    if settings.files.url is not None:
        return open_store(settings.files.url, settings.files, prefix=SETTINGS_PREFIX, quick=quick)
    folder = settings.server.home / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnavailable(f"The folder {folder} cannot be created ({error.strerror}): set FILES_URL.") from error
    return FolderStore(folder, setting=f"{SETTINGS_PREFIX}_URL")
