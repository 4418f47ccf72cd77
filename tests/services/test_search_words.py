"""How what people look for is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.repositories.search import Words, words_of


@pytest.mark.parametrize(
    ("text", "query", "beginning"),
    [
        ("hel", "", "hel"),
        ("hello wor", "hello", "wor"),
        ("hello ", "hello", None),  # a space says that the word is whole
        ("a", "a", None),  # a single letter would begin half of all words
        ("hello w", "hello w", None),
        ('"hello wor"', '"hello wor"', None),
        ('say "hello wor', "say hello", "wor"),  # never closed
        ('-"hello world" x', '-"hello world" x', None),
        ("cat -dog", 'cat -"dog"', None),
        ("cat --dog", 'cat -"dog"', None),
        ("cat -foo.bar", 'cat -"foo bar"', None),
        ("-", "", None),
        ("- -- ---", "", None),
        ('"" "-" -""', "", None),
        ("cat or dog", "cat or dog", None),
        ("cat OR dog", "cat OR dog", None),
        ("cat or", "cat or", None),
        ("or", "or", None),
        ("cat or app.py", "cat or app", "py"),
        ("app/services/search.py", "app services search", "py"),
        ("covid-19", "covid", "19"),
        ("a_b@c<d>", "a b c d>", None),
        ("don't", "don't", None),
        ("été", "", "été"),
        ("e\u0301te\u0301", "e\u0301te\u0301", None),  # not letters alone, so not for to_tsquery
        ("!!! ???", "!!! ???", None),
        ("x:* & (y | !z) <-> \\", "x:* (y | !z) > \\", None),
    ],
)
def test_words(text: str, query: str, beginning: str | None) -> None:
    assert words_of(text) == Words(query, beginning)


@given(st.text(alphabet=st.sampled_from('ab1é字-"._/ or\t😀'), max_size=30))
def test_quotation_marks_come_in_pairs_and_beginnings_are_plain(text: str) -> None:
    words = words_of(text)
    assert words.query.count('"') % 2 == 0
    assert words.beginning is None or (words.beginning.isalnum() and words.beginning in text)
