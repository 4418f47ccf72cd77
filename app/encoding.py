"""JSON as Parley sends it, by one encoder for responses, streams and files; and detection of files not in UTF-8."""

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from app.text import clean_text

# JSON needs no escape for these three, but line readers such as `str.splitlines` cut at them. JSON itself escapes the
# others, which are control characters: LF, CR, VT, FF, FS, GS and RS.
_LINE_BREAKS = {break_.encode(): f"\\u{ord(break_):04x}".encode() for break_ in "\x85\u2028\u2029"}


def encode_json(value: Any) -> bytes:
    """Return `value` as JSON. Times are ISO 8601, NaN is null, lone surrogates are U+FFFD.

    Raises `TypeError` for types that have no JSON form.
    """
    try:
        return orjson.dumps(value, _plain, orjson.OPT_NON_STR_KEYS)
    except TypeError:  # an integer of more than 64 bits, or a lone surrogate
        return clean_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)).encode()


def encode_json_line(value: Any) -> bytes:
    """Return `value` as JSON without any character at which a line reader may cut."""
    encoded = encode_json(value)
    if not encoded.isascii():
        for character, escape in _LINE_BREAKS.items():
            encoded = encoded.replace(character, escape)
    return encoded


def encoding_error(content: bytes) -> str | None:
    """Return a clause if `content` is not text in UTF-8, such as UTF-16 with or without a byte order mark."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return "is not UTF-8 text; save it again as UTF-8"
    return "contains NUL characters, which UTF-16 has; save it again as UTF-8" if b"\0" in content else None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal | UUID):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
