"""Search queries: what a person types, as PostgreSQL tsqueries.

    quokka wombat       both words, anywhere in the conversation
    "zebra crossing"    these words next to each other
    -draft              not this word; `--dry-run` is a word like others
    quokka or wombat    either
    app/errors.py       its parts next to each other, as for every word with separators in it

The last word counts as the beginning of a word, unless it is in quotes, excluded, or followed by a space.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.services.search_words import Term, cut

MAX_CLAUSES = 32  # words and phrases of a query; further ones are ignored

_TOKEN = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')


@dataclass(frozen=True, slots=True)
class Clause:
    """One word or phrase. `tsquery` is text for a cast to `tsquery`; `terms` are what it finds, for highlighting."""

    tsquery: str
    terms: frozenset[str]
    prefix: str | None = None  # the beginning of a word that it also finds
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """Alternatives, each of which is a list of clauses that must all hold. Without alternatives nothing is found."""

    alternatives: tuple[tuple[Clause, ...], ...]

    @property
    def wanted(self) -> list[Clause]:
        """Clauses that are searched for, of all alternatives."""
        return [clause for clauses in self.alternatives for clause in clauses if not clause.excluded]


def parse(text: str) -> SearchQuery:
    """Read `text`. Any text is a valid query."""
    alternatives: list[list[Clause]] = [[]]
    tokens = list(_TOKEN.finditer(text))[: 4 * MAX_CLAUSES]
    room = MAX_CLAUSES
    for token in tokens:
        word, phrase = token["word"], token["phrase"]
        if word is not None and word.lower() == "or" and token["minus"] is None:
            alternatives.append([])
            continue
        is_last = token.end() == len(text)
        excluded = token["minus"] is not None and not (word or "").startswith("-")
        clause = _clause(phrase if word is None else word, prefix=is_last and word is not None and not excluded)
        if clause is not None and room:
            room -= 1
            alternatives[-1].append(Clause(clause.tsquery, clause.terms, clause.prefix, excluded))
    return SearchQuery(tuple(tuple(each) for each in alternatives if each))


def _clause(text: str, *, prefix: bool) -> Clause | None:
    terms = list(cut(text))
    if not terms:
        return None
    wholes = [term for term in terms if not term.is_part]
    # As written; as a text that writes identifiers in small letters; by the parts of identifiers.
    texts = (wholes, _renumbered(wholes), _finest(terms))
    readings = [_chain(reading, prefix=prefix) for reading in texts]
    last = wholes[-1] if not wholes[-1].is_tail else wholes[-2]
    begins = last.text if prefix or _is_single_character(wholes) else None
    return Clause(
        " | ".join(dict.fromkeys(readings)), frozenset(term.text for term in terms if not term.is_tail), begins
    )


def _finest(terms: Sequence[Term]) -> list[Term]:
    """Return the parts of identifiers in place of the identifiers."""
    split = {term.start for term in terms if term.is_part}
    ends = {term.end for term in terms if term.is_part}
    return [term for term in terms if term.is_part or not (term.start in split and term.end in ends)]


def _renumbered(terms: Sequence[Term]) -> list[Term]:
    """Return `terms` at consecutive positions, as in a text that writes the identifiers in small letters."""
    return [Term(term.text, place, term.start, term.end, is_tail=term.is_tail) for place, term in enumerate(terms, 1)]


def _is_single_character(terms: Sequence[Term]) -> bool:
    """Return whether this is one character of a script without spaces, which begins a pair in documents."""
    return len(terms) == 1 and not terms[0].text.isascii() and len(terms[0].text) == 1


def _chain(terms: Sequence[Term], *, prefix: bool) -> str:
    """Return the terms as a phrase: each at its distance from the one before."""
    kept = [term for term in terms if not term.is_tail]
    pieces = []
    for index, term in enumerate(kept):
        if index:
            distance = term.position - kept[index - 1].position
            pieces.append("<->" if distance == 1 else f"<{distance}>")
        is_last = index == len(kept) - 1
        pieces.append(quoted(term.text) + (":*" if is_last and (prefix or _is_single_character(kept)) else ""))
    return f"({' '.join(pieces)})"


def quoted(term: str) -> str:
    """Return a term as a lexeme of a tsquery."""
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
