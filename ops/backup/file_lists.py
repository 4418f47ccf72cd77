"""The list of the contents of users' files in a backup, and the names of their copies in the store of backups.

The list is a file beside the manifest, with one line of JSON for each content, sorted by hash: it can be longer than a
manifest may be, and is read and written line by line. The copies are in a store below that of the backups, because
several backups share them, and a list of backups need not read their names.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import orjson

from app.storage.base import CHUNK, FileWriter, Store
from app.storage.errors import FileNotFoundInStorage, StoredFileChanged
from ops.backup.errors import BackupDamaged
from ops.backup.inventory import Backup, Inventory
from ops.backup.manifest import FileList
from ops.backup.names import ENCRYPTED_SUFFIX

CONTENTS = "contents"  # the store below that of the backups
_KEYS_DIGITS = 8
_MAX_LINE = 4096


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A content: its SHA-256 and size, and the `name`, size and SHA-256 of its copy.

    The copy differs from the content if it is encrypted. `stored_sha256` is None if there was no copy.
    """

    sha256: str
    bytes: int
    name: str
    stored_bytes: int = 0
    stored_sha256: str | None = None

    @property
    def encrypted(self) -> bool:
        """Whether the copy is encrypted."""
        return self.name.endswith(ENCRYPTED_SUFFIX)


def copies_of(store: Store) -> Store:
    """Return the store of the copies of the backups in `store`."""
    return store.below(CONTENTS)


def copy_name(source: str, sha256: str, recipients: Sequence[str]) -> str:
    """Return the name of a content's copy. With other public keys, a content is copied again."""
    if not recipients:
        return f"{source}-{sha256}"
    keys = hashlib.sha256("\n".join(sorted(recipients)).encode()).hexdigest()[:_KEYS_DIGITS]
    return f"{source}-{sha256}-{keys}{ENCRYPTED_SUFFIX}"


class ListWriter:
    """A list that is being written: collects lines into chunks, and counts."""

    def __init__(self, file: FileWriter) -> None:
        self._file, self._digest, self._buffer = file, hashlib.sha256(), bytearray()
        self._size = self.contents = self.content_bytes = self.missing = 0

    def add(self, entry: FileEntry) -> None:
        """Add an entry. They must be sorted by hash."""
        self._buffer += orjson.dumps(asdict(entry), option=orjson.OPT_APPEND_NEWLINE)
        self.contents += 1
        self.content_bytes += entry.bytes
        self.missing += entry.stored_sha256 is None
        if len(self._buffer) >= CHUNK:
            self._flush()

    def finish(self) -> FileList:
        """Write the rest; return the description of the list."""
        self._flush()
        return FileList(
            bytes=self._size,
            sha256=self._digest.hexdigest(),
            contents=self.contents,
            content_bytes=self.content_bytes,
            missing=self.missing,
        )

    def _flush(self) -> None:
        chunk = bytes(self._buffer)
        self._buffer.clear()
        self._digest.update(chunk)
        self._size += len(chunk)
        if chunk:
            self._file.write(chunk)


def read_list(inventory: Inventory, backup: Backup) -> Iterator[FileEntry]:
    """Yield the entries of a backup's list, sorted by hash; a backup without a list has none.

    Raises `BackupDamaged` for a list that is missing, invalid, or, at its end, different from the manifest.
    """
    files = inventory.manifest(backup).files
    if files is None:
        return
    if backup.files_list is None:
        raise BackupDamaged(f"The list of files of {backup.name} is missing.")
    digest, size = hashlib.sha256(), 0
    damaged = BackupDamaged(f"The list of files of {backup.name} is damaged: it is not the one in the manifest.")

    def checked(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            if size > files.bytes:
                raise damaged
            yield chunk

    try:
        for line in _lines(checked(inventory.store.read(backup.files_list.name))):
            yield _parse(line)
    except (FileNotFoundInStorage, StoredFileChanged) as error:
        raise BackupDamaged(error.detail) from None
    except (ValueError, TypeError, KeyError):
        raise damaged from None
    if size != files.bytes or digest.hexdigest() != files.sha256:
        raise damaged


class KnownCopies:
    """The entries of an earlier list, looked up in the order of their hashes. A damaged list has none."""

    def __init__(self, entries: Iterator[FileEntry]) -> None:
        self._entries = entries
        self._next = self._advance()

    @classmethod
    def of(cls, inventory: Inventory, source: str) -> Self:
        """Return those of the newest backup of `source` that has a list."""
        for backup in inventory.backups:
            if backup.name.source == source and backup.files_list is not None:
                return cls(read_list(inventory, backup))
        return cls(iter(()))

    def find(self, sha256: str) -> FileEntry | None:
        """Return the entry of a content, or None. Each call must ask for a greater hash than the one before."""
        while self._next is not None and self._next.sha256 < sha256:
            self._next = self._advance()
        return self._next if self._next is not None and self._next.sha256 == sha256 else None

    def _advance(self) -> FileEntry | None:
        try:
            return next(self._entries, None)
        except BackupDamaged:
            return None


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > _MAX_LINE:
            raise ValueError("a line without end")
    if rest:
        raise ValueError("the last line has no end")


def _parse(line: bytes) -> FileEntry:
    values = orjson.loads(line)
    return FileEntry(
        sha256=str(values["sha256"]),
        bytes=int(values["bytes"]),
        name=str(values["name"]),
        stored_bytes=int(values["stored_bytes"]),
        stored_sha256=values["stored_sha256"],
    )
