"""Search documents: the terms of a conversation's messages in ranges, as PostgreSQL tsvectors.

A range holds about `RANGE_TERMS` positions of terms. Messages are packed into it in order, with a gap between two, so
that a phrase is not found across them. A longer message is spread over several ranges, which overlap, so that a phrase
at the seam is found.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.services.search_words import Term, cut

RANGE_TERMS = 2_000  # a term may have 256 positions in a tsvector, which the commonest words need in about so many
OVERLAP = 32  # positions that two ranges of one message share


@dataclass(slots=True)
class RangeDocument:
    """Terms of the messages from `first_position` to `last_position`, from `first_character` of the first one on."""

    first_position: int
    first_character: int
    last_position: int
    positions: int = 0  # that are used, gaps included
    terms: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, text: str, position: int) -> None:
        """Add a term at a position of this document, counted from 1."""
        places = self.terms[text]
        if not places or places[-1] != position:
            places.append(position)
        self.positions = max(self.positions, position)

    @property
    def tsvector(self) -> str:
        """The document as text for a cast to `tsvector`."""
        return " ".join(f"{_quoted(text)}:{','.join(map(str, places))}" for text, places in self.terms.items())


def ranges(messages: Iterable[tuple[int, str | None]], first_character: int = 0) -> Iterator[RangeDocument]:
    """Yield the documents of `messages`, given as position and content in ascending order.

    The first message is read from `first_character` on. The last document grows when more messages follow: write it
    again from its own beginning then.
    """
    current: RangeDocument | None = None
    for position, content in messages:
        start, first_character = first_character, 0
        terms = list(cut(content[start:])) if content else []
        length = terms[-1].position if terms else 0
        if current is not None and current.positions + 1 + length <= RANGE_TERMS:
            _pack(current, terms, position)
            continue
        if current is not None:
            yield current
        *whole, current = _spread(terms, position, start)
        yield from whole
    if current is not None:
        yield current


def title_tsvector(title: str | None) -> str:
    """Return the terms of a title with the weight A, as text for a cast to `tsvector`."""
    return " ".join(f"{_quoted(term.text)}:{term.position}A" for term in cut(title or ""))


def text_tsvector(*texts: str | None) -> str:
    """Return the terms of `texts`, with a gap between two, as text for a cast to `tsvector`.

    Together they have at most 16,383 characters, because a tsvector has no more positions.
    """
    document = RangeDocument(1, 0, 1)
    for text in filter(None, texts):
        _pack(document, cut(text), 1)
    return document.tsvector


def _pack(document: RangeDocument, terms: Iterable[Term], position: int) -> None:
    before = document.positions + 1 if document.positions else 0
    document.last_position = position
    for term in terms:
        document.add(term.text, before + term.position)


def _spread(terms: list[Term], position: int, start: int) -> Iterator[RangeDocument]:
    """Yield the documents of one message: one, unless it has more than `RANGE_TERMS` positions."""
    document = RangeDocument(position, start, position)
    offset, overlap = 0, list[Term]()
    for term in terms:
        if term.position - offset > RANGE_TERMS and not term.is_part:
            yield document
            offset = overlap[0].position - 1
            document = RangeDocument(position, start + overlap[0].start, position)
            for again in overlap:
                document.add(again.text, again.position - offset)
            overlap = []
        document.add(term.text, term.position - offset)
        if term.position - offset > RANGE_TERMS - OVERLAP:
            overlap.append(term)
    yield document


def _quoted(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
