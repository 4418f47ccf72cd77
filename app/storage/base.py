"""The interface of a store of named files."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

CHUNK = 1024 * 1024  # bytes per read


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in a store: its `size` in bytes, and the time of the store's clock when it was stored."""

    name: str
    size: int
    stored_at: datetime


class FileWriter(Protocol):
    """The open file of `Store.create`."""

    def write(self, chunk: bytes) -> None: ...


class Store(ABC):
    """A flat set of named files. A file appears only when it is complete.

    `url` names the store and holds no secret. Every method raises `StorageUnavailable` if the store cannot be reached
    or refuses the request.
    """

    url: str

    def list_files(self) -> list[StoredFile]:
        """Return all complete files, in no order. Use it for a store with few files."""
        return list(self.iterate_files())

    @abstractmethod
    def iterate_files(self) -> Iterator[StoredFile]:
        """Yield all complete files, in no order. Files that are created or deleted during it may be included."""

    @abstractmethod
    def create(self, name: str) -> AbstractContextManager[FileWriter]:
        """Open a new file for writing. It appears when the block ends, and never if the block raises.

        Raises `StorageUnavailable` if a file of this name exists.
        """

    @abstractmethod
    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """Yield the file from the byte `start` on, in chunks of at most 1 MiB.

        Raises `FileNotFoundInStorage`, and `StoredFileChanged` if the store detects a replacement.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file. A missing file is not an error."""

    @abstractmethod
    def delete_unfinished(self, prefix: str, suffixes: Sequence[str] = ("",)) -> int:
        """Delete the unfinished files whose names have this prefix and one of these suffixes; return their number.

        Call it only while no process writes such a file.
        """

    @abstractmethod
    def delete_abandoned(self, names: re.Pattern[str], before: datetime) -> int:
        """Delete the unfinished files with these names that were begun and last written `before`; return their number.

        The process that wrote such a file has ended.
        """

    @abstractmethod
    def below(self, name: str) -> "Store":
        """Return the store `name` inside this one, which does not list its files. It appears with its first file."""
