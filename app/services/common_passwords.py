"""Passwords that attackers try first.

The list has the 30,000 most frequent passwords of known leaks, as collected for zxcvbn 4.5.0 (MIT license), those
shorter than four characters left out. It is in lower case, and is read at first use. A password is also common if it is
one of them with a few digits or signs around it, in usual substitutions (`P@ssw0rd`), or repeated, and if it is a
sequence of the alphabet or of a row of keys. Each check takes microseconds: an estimator such as zxcvbn's takes seconds
of CPU for some passwords of 72 characters.
"""

import gzip
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("common_passwords.txt.gz")
MAX_AFFIX = 6  # digits and signs around a common password that do not make it a good one
MAX_UNIT = 3  # characters of a text that is only repeated

# Substitutions of letters; `1` and `!` stand for two.
_SUBSTITUTIONS = tuple(str.maketrans("@4301!$57+", f"aaeo{letter}{letter}sstt") for letter in "il")
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "0123456789",
    "1234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "azertyuiop",
)
_SEQUENCES = tuple(sequence * 3 for row in _ROWS for sequence in (row, row[::-1]))  # they may begin again


def is_common(password: str) -> bool:
    """Return whether `password`, of at least 8 characters, is one that attackers try first."""
    plain = unicodedata.normalize("NFKC", password).casefold()  # full-width letters are letters
    return any(_is_listed(text) for core in _cores(plain) for text in _variants(core))


def _cores(text: str) -> set[str]:
    """Return `text`, and `text` without the digits and signs before it, behind it and around it, if they are few."""
    signs = "".join({character for character in text if not character.isalpha()})
    cores = (text.lstrip(signs), text.rstrip(signs), text.strip(signs))
    return {text, *(core for core in cores if len(text) - len(core) <= MAX_AFFIX)}


def _variants(text: str) -> Iterator[str]:
    yield text
    yield from (text.translate(table) for table in _SUBSTITUTIONS)


def _is_listed(text: str) -> bool:
    unit = _repeated_unit(text)
    if unit in _listed():
        return True
    if len(unit) <= MAX_UNIT:
        return len(unit) < len(text)
    return any(unit in sequence for sequence in _SEQUENCES)


def _repeated_unit(text: str) -> str:
    """Return the shortest text of which `text` is a repetition."""
    return text[: (text + text).find(text, 1)]


@cache
def _listed() -> frozenset[str]:
    return frozenset(gzip.decompress(LIST.read_bytes()).decode().split())
