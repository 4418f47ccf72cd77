"""Passages: the text of a file in parts that fit into a prompt, and of which each is found by a search."""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

from app.extraction.pieces import Piece

LONGEST = 1_500  # characters
_SHORTEST = 500  # a passage ends earlier only where its text does
_USUAL = 1_000
# The ends of a passage, the best first: of a paragraph, a line, a sentence, a word.
_ENDS = tuple(
    regex.compile(pattern)
    for pattern in (r"\n\n+", r"\n+", r"[.!?…]+[\p{Pe}\p{Pf}\"']*\s+|[。！？｡।॥။።]+\p{Pe}*\s*", r"\s+")
)
_BETWEEN_PIECES = "\n\n"  # in the text of which all passages are parts


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a text. `start` is its first character, from 0; `page` the page of a PDF that it is on."""

    start: int
    page: int | None
    content: str


def passages(pieces: Iterable[Piece]) -> Iterator[Passage]:
    """Yield the passages of a text in their order; joined, they are the whole text. None extends over two pages."""
    start, previous = 0, None
    for piece in pieces:
        if previous is not None:
            previous = Passage(previous.start, previous.page, previous.content + _BETWEEN_PIECES)
            start += len(_BETWEEN_PIECES)
            yield previous
            previous = None
        for content in _parts(piece.text):
            if previous is not None:
                yield previous
            previous = Passage(start, piece.page, content)
            start += len(content)
    if previous is not None:
        yield previous


def _parts(text: str) -> Iterator[str]:
    begin = 0
    while len(text) - begin > LONGEST:
        end = _end(text, begin)
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:]


def _end(text: str, begin: int) -> int:
    """Return where the passage from `begin` ends, which is before the end of the text."""
    last = begin + LONGEST
    for first in (begin + _USUAL, begin + _SHORTEST):
        for pattern in _ENDS:
            found = None
            for found in pattern.finditer(text, first, last):  # noqa: B007  # the last one counts
                pass
            if found is not None:
                return int(found.end())
    while last > begin + _SHORTEST and unicodedata.category(text[last]).startswith("M"):
        last -= 1  # a mark belongs to the character before it
    return last
