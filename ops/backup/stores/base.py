"""What a store must do. It knows files by name, and nothing of backups."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

CHUNK = 1024 * 1024  # bytes read at a time


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the store; `stored_at` is by the store's clock."""

    name: str
    size: int
    stored_at: datetime


class Writer(Protocol):
    """Takes a file piece by piece."""

    def write(self, piece: bytes) -> None: ...


class Store(ABC):
    """One place. Everything raises `StoreFailed` in plain words where the place cannot be reached or refuses.

    `place` is its URL, without anything secret. A file is there as a whole or not at all.
    """

    place: str

    @abstractmethod
    def entries(self) -> list[Entry]:
        """All files, in no order. Those still being written are not among them."""

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Writer]:
        """A new file: it is there once the block has ended, and never if the block raised. Refuses a taken name."""

    @abstractmethod
    def reading(self, name: str) -> Iterator[bytes]:
        """The file in pieces, at most a few megabytes of it in memory. Raises `Damaged` where there is none."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no fault."""

    @abstractmethod
    def tidy(self, prefix: str, suffixes: Sequence[str]) -> int:
        """Remove what was being written under such names and came to no end. Returns how many there were.

        The caller knows that nobody is writing one of them now.
        """
