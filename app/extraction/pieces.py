"""Pieces of text on their way from a reader to the output."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.text import without_controls

_LINE_ENDS = re.compile("\r\n|[\r\f\v\x85\u2028\u2029]")
_TRAILING = re.compile(r"[ \t]+\n")
_GAP = re.compile(r"\n{3,}")


MAX_PIECES = 20_000  # of a file, such as pages; more of them are left out


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive text of a file; `page` is the page of a PDF that it is on, from 1."""

    text: str
    page: int | None = None


def clean(text: str) -> str:
    """Return text that can be stored and shown: no controls, `\\n` as the only line end, no gaps of empty lines."""
    text = without_controls(_LINE_ENDS.sub("\n", text)).replace("\ufeff", "")
    return _GAP.sub("\n\n", _TRAILING.sub("\n", text)).strip("\n")


def cut(pieces: Iterable[Piece], characters: int) -> Iterator[Piece | None]:
    """Yield cleaned pieces that have text, up to `characters` and MAX_PIECES; None at the end if there was more."""
    left, count = characters, 0
    for piece in pieces:
        text = clean(piece.text)
        if not text.strip():
            continue
        count += 1
        if len(text) > left or count > MAX_PIECES:
            if left and count <= MAX_PIECES:
                yield Piece(text[:left], piece.page)
            yield None
            return
        yield Piece(text, piece.page)
        left -= len(text)
