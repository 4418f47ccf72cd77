"""Copies of files at providers: their names there, and their contents as streams.

A name has a mark of this installation, so that its copies differ from other files of the operator's account. It does
not have the name that the user chose.
"""

import hashlib
import io
import re
import time
from collections.abc import Iterator
from pathlib import PurePosixPath
from uuid import UUID

from sqlalchemy import Connection

from app.outbound.errors import DeadlineExceeded
from app.repositories.provider_files import INSTALLATION
from app.storage.base import Store
from app.storage.errors import StoredFileChanged

_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")


def copy_prefix(connection: Connection) -> str:
    """Return the prefix of the names of this installation's copies.

    It is made from the database server's identity and the name of the database. So a copy of the database that was
    restored elsewhere has another one, and never deletes the copies of the original as orphans.
    """
    row = INSTALLATION.one(connection, {})
    if row is None:
        raise LookupError("the database server has no identity")
    return f"parley-{hashlib.sha256(row.name.encode()).hexdigest()[:20]}-"


def copy_name(prefix: str, file_id: UUID, name: str) -> str:
    """Return the name of a copy. Providers need the extension of the user's `name`."""
    suffix = PurePosixPath(name).suffix.lower()
    return f"{prefix}{file_id.hex}{suffix if _SUFFIX.fullmatch(suffix) else '.txt'}"


class ObjectStream(io.RawIOBase):
    """The content of an object as a file that is read in pieces, for at most `seconds` seconds."""

    def __init__(self, store: Store, name: str, size: int, seconds: float) -> None:
        super().__init__()
        self._store, self._name, self._size, self._seconds = store, name, size, seconds
        self._until = time.monotonic() + seconds
        self._position, self._piece = 0, memoryview(b"")
        self._pieces: Iterator[bytes] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; the next read opens the object there."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset != self._position:
            self._position, self._pieces, self._piece = base + offset, None, memoryview(b"")
        return self._position

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # any buffer
        """Read the next bytes. Raises `StorageError`, also for an object that is shorter, and `DeadlineExceeded`."""
        if time.monotonic() > self._until:
            raise DeadlineExceeded(f"did not take the file within {self._seconds:g} seconds")
        if self._position >= self._size:
            return 0
        piece = self._piece or self._next_piece()
        taken = min(len(buffer), len(piece), self._size - self._position)
        buffer[:taken] = piece[:taken]
        self._piece = piece[taken:]
        self._position += taken
        return taken

    def _next_piece(self) -> memoryview:
        if self._pieces is None:
            self._pieces = iter(self._store.read(self._name, self._position))
        for piece in self._pieces:
            if piece:
                return memoryview(piece)
        raise StoredFileChanged(f"{self._name} is shorter than {self._size} bytes")
