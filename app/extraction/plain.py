"""Text files, Markdown, CSV and JSON: the text is what is in the file."""

from collections.abc import Iterator
from typing import BinaryIO

from app.extraction.pieces import Piece

_CHARACTER_BYTES = 4  # of the longest in UTF-8


def prefix_bytes(characters: int) -> int:
    """Return how many bytes hold one character more than `characters`."""
    return _CHARACTER_BYTES * (characters + 1)


def read(file: BinaryIO, characters: int) -> Iterator[Piece]:
    """Yield the text, and not more than one character more than `characters`, as one piece."""
    yield Piece(file.read(prefix_bytes(characters)).decode("utf-8", "ignore")[: characters + 1])
