"""Passages: where they end, and that they are the whole text."""

import itertools
import random

import pytest

from app.extraction.pieces import Piece
from app.services.passages import LONGEST, passages

SENTENCE = "A heat pump moves heat from a cold place to a warm one. "
CHINESE = "热泵将热量从低温处转移到高温处。"


def contents(text: str) -> list[str]:
    return [passage.content for passage in passages([Piece(text)])]


def test_short_text_is_one_passage() -> None:
    assert [(each.start, each.page, each.content) for each in passages([Piece("short", 3)])] == [(0, 3, "short")]
    assert list(passages([])) == []


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (((SENTENCE * 10).strip() + "\n\n") * 10, "\n\n"),
        ((SENTENCE * 5 + "\n") * 30, "\n"),
        (SENTENCE * 50, ". "),
        (CHINESE * 200, "。"),
        ("word " * 1_000, " "),
        ("x" * 5_000, "x"),
        ("क्षि" * 1_000, "ि"),
    ],
    ids=["paragraph", "line", "sentence", "chinese", "word", "nothing", "mark"],
)
def test_passage_ends_where_its_text_does(text: str, end: str) -> None:
    found = contents(text)
    assert len(found) > 1
    assert all(content.endswith(end) for content in found[:-1])
    assert all(500 <= len(content) <= LONGEST for content in found[:-1])
    assert "".join(found) == text


def test_passages_do_not_extend_over_pages() -> None:
    pieces = [Piece("one", 1), Piece(SENTENCE * 40, 2), Piece("three", 4)]
    found = list(passages(pieces))
    assert [each.page for each in found] == [1, 2, 2, 4]
    assert "".join(each.content for each in found) == "\n\n".join(piece.text for piece in pieces)
    assert [each.start for each in found] == [0, *itertools.accumulate(len(each.content) for each in found[:-1])]


def test_any_text_is_its_passages() -> None:
    chance = random.Random(14)
    for _ in range(50):
        text = "".join(chance.choices("ab .!\n\t。\u0301🙂", k=chance.randint(1, 6_000)))
        found = contents(text)
        assert "".join(found) == text
        assert all(1 <= len(content) <= LONGEST for content in found)
