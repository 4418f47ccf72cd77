"""The contents of a user's files in the ZIP file of an export."""

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from app.errors import FileStoreUnavailable
from app.storage.base import Store
from app.storage.errors import FileNotFoundInStorage, StorageError

FOLDER = "files"  # in the ZIP file
_GIVE_UP_AFTER = 3  # failures of the store in succession: it is away, and each attempt takes a while
# The errors of a store name hosts and folders, so callers get these.
_MISSING = "The store of files does not have it."
_AWAY = "The store of files did not answer."
_DAMAGED = "It is damaged: its SHA-256 differs."
_TRUNCATED = " Its content here is truncated."


class ExportedFiles:
    """The contents of one export. Counts them while they are written: `written`, and `unread` ones with the reason."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self.written = 0
        self.unread: dict[str, str] = {}
        self._open_store = open_store
        self._failures = 0

    def write(self, archive: zipfile.ZipFile, row: dict[str, Any]) -> Iterator[None]:
        """Write the content of a row of `file_contents` as `files/<SHA-256>`. Yields where the bytes can be sent."""
        sha256 = str(row["sha256"])
        chunks = self._read(row["object"])
        try:
            piece = next(chunks, b"")
        except _Unread as error:
            self.unread[sha256] = str(error)
            return
        digest = hashlib.sha256()
        entry = zipfile.ZipInfo(f"{FOLDER}/{sha256}")  # stored as it is: most kinds of files are compressed already
        with archive.open(entry, "w", force_zip64=True) as file:
            try:
                while piece:
                    digest.update(piece)
                    file.write(piece)
                    yield
                    piece = next(chunks, b"")
            except _Unread as error:
                self.unread[sha256] = f"{error}{_TRUNCATED}"
                return
        if digest.hexdigest() == sha256:
            self.written += 1
        else:
            self.unread[sha256] = _DAMAGED

    def _read(self, object_: str) -> Iterator[bytes]:
        if self._failures >= _GIVE_UP_AFTER:
            raise _Unread(_AWAY)
        try:
            yield from self._open_store().read(object_)
        except FileNotFoundInStorage:
            raise _Unread(_MISSING) from None
        except (StorageError, FileStoreUnavailable):
            self._failures += 1
            raise _Unread(_AWAY) from None
        self._failures = 0


class _Unread(Exception):
    """A content that cannot be read, and the reason for the user."""
