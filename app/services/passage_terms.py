"""The terms by which passages of files are found for a question, as PostgreSQL tsqueries.

A search of conversations finds what a person types. A question is a sentence: each of its words may find a passage, in
another form too. The words are cut by the rules of search (`search_words`), so that all scripts work.

- The beginning of a word finds its other forms: `heating` finds `heated`, `Fristen` finds `Frist`.
- The first half of a long word finds the other words with that part: `Wärmepumpenwartung` finds `Wärmepumpe`.
- An Arabic word is found with and without its article.
"""

from collections.abc import Iterator

import regex

from app.services.search_query import quoted
from app.services.search_words import SPACELESS, cut

MAX_TERMS = 48  # each is looked up; of a longer question, the longest words
_QUESTION_CHARS = 10_000
_STEM_MIN, _ENDING = 4, 2  # letters of a word's beginning, and those that may follow in another form
_COMPOUND_MIN, _HALF_MIN = 10, 5
_ARTICLE = "ال"

_IS_SPACELESS = regex.compile(rf"[{SPACELESS}]", regex.VERSION1)
_IS_ARABIC = regex.compile(r"\p{Arabic}")


def terms_of(question: str) -> list[str]:
    """Return the tsqueries of the question's words, none twice."""
    words = dict.fromkeys(term.text for term in cut(question[:_QUESTION_CHARS]) if not term.is_tail)
    longest = sorted(words, key=len, reverse=True)[:MAX_TERMS]
    return list(dict.fromkeys(query for word in longest for query in _queries(word)))[:MAX_TERMS]


def _queries(word: str) -> Iterator[str]:
    if _IS_SPACELESS.match(word):
        yield _prefix(word) if len(word) == 1 else quoted(word)
        return
    if _IS_ARABIC.match(word):
        bare = word.removeprefix(_ARTICLE) if len(word) > _STEM_MIN else word
        yield f"{_prefix(bare)} | {_prefix(_ARTICLE + bare)}"
        return
    yield quoted(word)
    if len(word) > _STEM_MIN:
        yield _prefix(word[: max(_STEM_MIN, len(word) - _ENDING)])
    if len(word) >= _COMPOUND_MIN:
        yield _prefix(word[: max(_HALF_MIN, len(word) // 2)])


def _prefix(word: str) -> str:
    return f"{quoted(word)}:*"
