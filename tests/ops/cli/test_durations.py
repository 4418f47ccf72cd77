"""Durations in options and reports."""

from datetime import timedelta

import click
import pytest

from ops.cli.base import DurationType
from ops.formatting import format_duration


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("90min", 5400), ("24h", 86_400), ("7d", 604_800), ("1.5h", 5400), ("4w", 2_419_200), ("30s", 30)],
)
def test_durations_are_parsed(words: str, seconds: float) -> None:
    assert DurationType().convert(words, None, None).total_seconds() == seconds


@pytest.mark.parametrize("words", ["", "h", "-1h", "24", "24 hours", "1e3h", "999999w", "0.0001s", "٣h"])
def test_invalid_durations_are_refused(words: str) -> None:
    with pytest.raises(click.BadParameter):
        DurationType().convert(words, None, None)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=0.31), "0.31 s"),
        (timedelta(seconds=125), "2 min 5 s"),
        (timedelta(days=3, hours=4), "3 d 4 h"),
    ],
)
def test_durations_are_formatted(length: timedelta, words: str) -> None:
    assert format_duration(length) == words
