"""Word rules of search: cut text into terms with positions.

The application cuts words, because PostgreSQL's parser depends on the database's locale and keeps paths, hosts and
hyphenated words whole. The same rules cut documents and queries, so they always agree:

- NFKC, case folding, no accents: `café` is `cafe`, `ﬁ` is `fi`, `İ` is `i`. Vowel signs of Indic scripts and tone marks
  of Thai are letters there and stay.
- A word is a run of letters, digits and marks. Everything else separates words, so `l’hippopotame` and `app/errors.py`
  are found by their parts.
- An identifier is one term and, at the same position, its parts: `getUserName` is `getusername`, and `get` `user`
  `name`.
- Scripts without spaces (Han, kana, Hangul, Thai, Lao, Khmer, Burmese) become overlapping pairs of characters:
  `机器学习` is `机器` `器学` `学习` `习`. The last character is a term of its own, so that it is found alone.
- Each emoji is a term.

A change of these rules needs a new `RULES` in app/repositories/search.py: documents of older rules are then rewritten.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import regex

MAX_TERM_CHARS = 200  # PostgreSQL takes 2,046 bytes; a longer run is no word that a person types
MAX_PARTS = 8  # of an identifier; more of them are a key or a hash

# Letters that NFKD does not decompose, by what a person without them types.
_PLAIN_LETTERS = str.maketrans(
    {"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "æ": "ae", "œ": "oe", "ŋ": "n", "ŧ": "t"}
)
# Combining classes of accents, and of the vowel points that Hebrew and Arabic leave out (Unicode's ccc property).
_ACCENTS = frozenset([*range(10, 36), *range(200, 241)])
# Letters that belong to the letter before them: voicing of half-width kana, vowels and finals of decomposed Hangul.
_TRAILING = r"\uff9e\uff9f\u1160-\u11ff\ud7b0-\ud7ff"
_MARKS = rf"[\p{{M}}\p{{Cf}}{_TRAILING}]"
_IGNORED = regex.compile(r"[\p{Cf}\u0640\ufe00-\ufe0f]")  # joiners, soft hyphen, tatweel, variation selectors
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u3005-\u3007\u30fc\uff70"
_RUN = regex.compile(
    rf"(?P<pairs>(?:[[{SPACELESS}&&[\p{{L}}\p{{N}}]]--[{_TRAILING}]]{_MARKS}*)+)"
    rf"|(?P<symbol>\p{{So}}[{_MARKS}\p{{Sk}}]*)"
    rf"|(?P<word>(?:[[\p{{L}}\p{{N}}]--[{SPACELESS}]]{_MARKS}*)+)",
    regex.VERSION1,
)
_CHARACTER = regex.compile(rf"[[\p{{L}}\p{{N}}]--[{_TRAILING}]]{_MARKS}*", regex.VERSION1)
_PART = regex.compile(r"\p{N}+|\p{Lu}+(?!\p{Ll})|\p{Lu}?(?:(?!\p{Lu})[\p{L}\p{M}\p{Cf}])+")


@dataclass(frozen=True, slots=True)
class Term:
    """One term. `position` counts from 1; the term is read from `text[start:end]`, in characters.

    Two terms at one position are two readings of the same word. `is_part` marks the parts of an identifier, and
    `is_tail` the last character of a run without spaces.
    """

    text: str
    position: int
    start: int
    end: int
    is_part: bool = False
    is_tail: bool = False


def fold(text: str) -> str:
    """Return `text` in the form in which terms are compared."""
    if text.isascii():
        return text.lower()
    marked = unicodedata.normalize("NFKD", _IGNORED.sub("", unicodedata.normalize("NFKC", text).casefold()))
    bare = "".join(character for character in marked if unicodedata.combining(character) not in _ACCENTS)
    return unicodedata.normalize("NFKC", bare).translate(_PLAIN_LETTERS)


_fold_cached = lru_cache(maxsize=8192)(fold)  # of single characters, which repeat


def cut(text: str) -> Iterator[Term]:
    """Yield the terms of `text`, positions ascending."""
    position = 0
    for run in _RUN.finditer(text):
        read = _pairs if run["pairs"] else _word
        for term in read(run[0], position + 1, run.start()):
            yield term
            position = max(position, term.position)


def _pairs(run: str, position: int, start: int) -> Iterator[Term]:
    characters = [(found.start(), found.end(), _fold_cached(found[0])) for found in _CHARACTER.finditer(run)]
    for index, (begin, end, character) in enumerate(characters):
        if index + 1 < len(characters):
            _, end, following = characters[index + 1]
            yield Term(character + following, position + index, start + begin, start + end)
        else:
            yield Term(character, position + index, start + begin, start + end, is_tail=index > 0)


def _word(run: str, position: int, start: int) -> Iterator[Term]:
    """Yield the word, and its parts if it is an identifier."""
    whole, end = fold(run)[:MAX_TERM_CHARS], start + len(run)
    if not whole:
        return
    yield Term(whole, position, start, end)
    parts = list(_PART.finditer(run, 0, len(run)))
    if 1 < len(parts) <= MAX_PARTS:
        for index, part in enumerate(parts):
            if text := fold(part[0])[:MAX_TERM_CHARS]:
                yield Term(text, position + index, start + part.start(), start + part.end(), is_part=True)
