"""Word rules of search: which terms a text has, at which positions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services.search_words import MAX_TERM_CHARS, cut, fold


def terms(text: str) -> list[str]:
    """Return the terms of `text`, without the parts of identifiers."""
    return [term.text for term in cut(text) if not term.is_part]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quokka—wombat", ["quokka", "wombat"]),
        ("“zebra crossing”", ["zebra", "crossing"]),
        ("l’hippopotame", ["l", "hippopotame"]),
        ("lambda→mu", ["lambda", "mu"]),
        ("Deployment✅ otter", ["deployment", "✅", "otter"]),
        ("app/errors.py", ["app", "errors", "py"]),
        ("my_var_name", ["my", "var", "name"]),
        ("--dry-run", ["dry", "run"]),
        ("1.2.3-rc4", ["1", "2", "3", "rc4"]),
        ("a\u2028b\u0085c", ["a", "b", "c"]),
    ],
)
def test_separators_of_any_script_separate_words(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café", "cafe\u0301"),
        ("café", "CAFE"),
        ("Straße", "STRASSE"),
        ("İstanbul", "istanbul"),
        ("ISPARTA", "ısparta"),
        ("ﬁne", "fine"),
        ("Σίσυφος", "ΣΙΣΥΦΟΣ"),
        ("Łódź", "lodz"),
        ("smørbrød", "smorbrod"),
        ("السَّلَامُ", "السلام"),
        ("שָׁלוֹם", "שלום"),
        ("می\u200cخواهم", "میخواهم"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("co\u00adoperate", "cooperate"),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
    ],
)
def test_two_spellings_of_a_word_are_one_term(one: str, other: str) -> None:
    assert terms(one) == terms(other)


def test_marks_that_are_letters_of_their_script_are_kept() -> None:
    assert fold("नमस्ते") == "नमस्ते"
    assert fold("हिन्दी") != fold("हन्द")
    assert fold("が") != fold("か")
    assert fold("ที่") != fold("ที")


def test_identifier_is_found_whole_and_by_its_parts() -> None:
    found = [(term.text, term.position) for term in cut("getUserName HTTPServer2")]
    assert found == [
        ("getusername", 1),
        ("get", 1),
        ("user", 2),
        ("name", 3),
        ("httpserver2", 4),
        ("http", 4),
        ("server", 5),
        ("2", 6),
    ]


def test_hash_has_no_parts() -> None:
    assert len(list(cut("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"))) == 1


def test_script_without_spaces_becomes_pairs_and_a_tail() -> None:
    assert terms("机器学习") == ["机器", "器学", "学习", "习"]
    assert [term.is_tail for term in cut("机器")] == [False, True]
    assert terms("机") == ["机"]
    assert terms("GPT模型 v2") == ["gpt", "模型", "型", "v2"]


def test_long_run_is_cut() -> None:
    [term] = cut("x" * 10_000)
    assert len(term.text) == MAX_TERM_CHARS
    assert (term.start, term.end) == (0, 10_000)


@given(st.text(max_size=60))
def test_any_text_has_terms_at_ascending_positions_inside_it(text: str) -> None:
    position = 0
    for term in cut(text):
        assert term.text
        assert term.text == fold(term.text)
        assert 0 <= term.start < term.end <= len(text)
        assert term.position >= position or term.is_part
        position = max(position, term.position)


@given(st.text(max_size=30))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
