"""Pagination with cursors: the envelope of every list, and the encoding of cursors.

A cursor contains the sort key of the last item of its page (keyset pagination). So each page is an index lookup, and
items that are added or deleted elsewhere do not shift it. A cursor contains no user id and grants no access: a forged
one only moves the position in the caller's own list. It is not signed, but decoded strictly: anything that `encode`
would not produce is refused.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from marshmallow import fields, validate

from app.api.schemas.base import Schema
from app.bounds import INTEGER_MAX
from app.errors import InvalidInput

DEFAULT_LIMIT = 20
LARGEST_LIMIT = 100
LONGEST_CURSOR = 512  # characters; valid cursors have fewer than 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Part:
    """The JSON codec of one value of a sort key. `unpack` receives any JSON value and may raise."""

    pack: Callable[[Any], float | str]
    unpack: Callable[[Any], Any]


def _integer(value: Any) -> int:
    if type(value) is not int:  # excludes bool
        raise ValueError("not an integer")
    return value


def _number(value: Any) -> float:
    if type(value) is not float:
        raise ValueError("not a number")
    return value


def _position(value: Any) -> int:
    if not 0 <= _integer(value) <= INTEGER_MAX:
        raise ValueError("out of range")
    return int(value)


# Microseconds, PostgreSQL's resolution: rounding would skip or repeat rows with almost equal times.
MOMENT = Part(lambda moment: (moment - _EPOCH) // _MICROSECOND, lambda value: _EPOCH + _integer(value) * _MICROSECOND)
# The same double after JSON: orjson writes the shortest digits that read back as it.
RANK = Part(lambda rank: rank, _number)
IDENTIFIER = Part(lambda identifier: identifier.hex, lambda value: UUID(hex=value))
POSITION = Part(lambda position: position, _position)


class Pages:
    """The pages of one kind of list.

    `tag` names the list and the version of its sort key, so that cursors of another list or an older order are refused.
    `key` returns the sort key of an item, and `parts` are the codecs of its values.
    """

    def __init__(self, tag: str, key: Callable[[Any], tuple[Any, ...]], *parts: Part) -> None:
        self._tag = tag
        self._key = key
        self._parts = parts

    def encode(self, *key: Any) -> str:
        """Return the cursor after the item with this sort key."""
        packed = [part.pack(value) for part, value in zip(self._parts, key, strict=True)]
        return base64.urlsafe_b64encode(orjson.dumps([self._tag, *packed])).rstrip(b"=").decode()

    def decode(self, cursor: str) -> tuple[Any, ...]:
        """Return the sort key in a cursor. Raises `InvalidInput` for anything that `encode` does not produce."""
        try:
            if len(cursor) <= LONGEST_CURSOR:
                tag, *values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
                key = tuple(part.unpack(value) for part, value in zip(self._parts, values, strict=True))
                # Encode again to compare: base64 and JSON have several spellings of one value.
                if tag == self._tag and self.encode(*key) == cursor:
                    return key
        except (ValueError, TypeError, OverflowError, AttributeError):
            pass
        raise InvalidInput(fields={"cursor": ["This is not a cursor of this list: send `next_cursor` unchanged."]})

    def envelope(self, rows: Sequence[Any], limit: int) -> dict[str, Any]:
        """Return the page with the first `limit` of up to `limit` + 1 rows; an extra row means that a page follows."""
        has_more = len(rows) > limit
        items = rows[:limit]
        return {"items": items, "next_cursor": self.encode(*self._key(items[-1])) if has_more else None}


class Cursor(fields.String):
    """A cursor, which loads as its sort key."""

    def __init__(self, pages: Pages) -> None:
        super().__init__(
            data_key="cursor",
            load_default=None,
            metadata={"description": "`next_cursor` of the previous page.", "maxLength": LONGEST_CURSOR},
        )
        self._pages = pages

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        return self._pages.decode(super()._deserialize(value, attr, data, **options))


class FilteredCursor(fields.String):
    """A cursor of a filtered list. It stays a text: the filters, which are read later, decide on its `Pages`."""

    def __init__(self) -> None:
        super().__init__(
            load_default=None,
            metadata={
                "description": "`next_cursor` of the previous page, with the same filters.",
                "maxLength": LONGEST_CURSOR,
            },
        )


class PageQuery(Schema):
    """The query of a list. Subclasses add `after = Cursor(...)` of their list."""

    limit = fields.Integer(
        load_default=DEFAULT_LIMIT,
        validate=validate.Range(1, LARGEST_LIMIT),
        metadata={"description": "Largest number of objects on the page."},
    )


def page_of(item: type[Schema]) -> type[Schema]:
    """Return the schema of a page of `item`s."""
    name = item.__name__.removesuffix("Schema")
    envelope = {"items": fields.List(fields.Nested(item)), "next_cursor": fields.String(allow_none=True)}
    return Schema.from_dict(envelope, name=f"{name}PageSchema")  # type: ignore[arg-type,return-value]
