"""Lists in pages: the envelope of every list, and the cursors that lead from one page to the next.

A cursor holds the values by which the last item of its page is ordered, so a page is found by the index however far
down it is, and nothing that is added or removed elsewhere shifts it. It carries no user id and grants nothing: a forged
one only starts its sender's own list at another place. It is not signed, but it is read strictly: what `encode` would
not have written is refused.
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
from app.errors import InvalidInput

DEFAULT_LIMIT = 20
LARGEST_LIMIT = 100
LONGEST_CURSOR = 512  # characters; ours have under 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST_INTEGER = 2**31 - 1  # of PostgreSQL's integer


@dataclass(frozen=True, slots=True)
class Part:
    """How one value of a key is written into JSON and read back; `unpack` may raise, and gets anything JSON can say."""

    pack: Callable[[Any], int | str]
    unpack: Callable[[Any], Any]


def _integer(value: Any) -> int:
    if type(value) is not int:  # a bool is an int, too
        raise ValueError("not an integer")
    return value


def _position(value: Any) -> int:
    if not 0 <= _integer(value) <= _LARGEST_INTEGER:
        raise ValueError("out of range")
    return int(value)


# Whole microseconds, PostgreSQL's own resolution: rounding would skip or repeat rows of nearly equal times.
MOMENT = Part(lambda moment: (moment - _EPOCH) // _MICROSECOND, lambda value: _EPOCH + _integer(value) * _MICROSECOND)
IDENTIFIER = Part(lambda identifier: identifier.hex, lambda value: UUID(hex=value))
POSITION = Part(lambda position: position, _position)


class Pages:
    """The pages of one kind of list.

    `tag` names what is listed and the version of its key, so that a cursor of another list, or of an older order, is
    refused. `key` takes an item to the values it is ordered by, and `parts` says how each of them is written.
    """

    def __init__(self, tag: str, key: Callable[[Any], tuple[Any, ...]], *parts: Part) -> None:
        self._tag = tag
        self._key = key
        self._parts = parts

    def encode(self, *key: Any) -> str:
        """The cursor after the item with this key."""
        packed = [part.pack(value) for part, value in zip(self._parts, key, strict=True)]
        return base64.urlsafe_b64encode(orjson.dumps([self._tag, *packed])).rstrip(b"=").decode()

    def decode(self, cursor: str) -> tuple[Any, ...]:
        """The key in a cursor. Raises `InvalidInput` for anything that `encode` did not write."""
        try:
            if len(cursor) <= LONGEST_CURSOR:
                tag, *values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
                key = tuple(part.unpack(value) for part, value in zip(self._parts, values, strict=True))
                # Written again it must be the same: base64 and JSON can say one thing in many ways.
                if tag == self._tag and self.encode(*key) == cursor:
                    return key
        except (ValueError, TypeError, OverflowError, AttributeError):
            pass
        raise InvalidInput(fields={"cursor": ["Not a cursor of this list: send `next_cursor` as it was answered."]})

    def envelope(self, rows: Sequence[Any], limit: int) -> dict[str, Any]:
        """A page of at most `limit` out of up to `limit` + 1 rows; the one too many says that there is a next page."""
        more = len(rows) > limit
        items = rows[:limit]
        return {"items": items, "next_cursor": self.encode(*self._key(items[-1])) if more else None}


class Cursor(fields.String):
    """The field of a cursor; loads as its key."""

    def __init__(self, pages: Pages) -> None:
        super().__init__(
            data_key="cursor",
            load_default=None,
            metadata={"description": "`next_cursor` of the page before.", "maxLength": LONGEST_CURSOR},
        )
        self._pages = pages

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        return self._pages.decode(super()._deserialize(value, attr, data, **options))


class PageQuery(Schema):
    """The query of a list; each adds `after = Cursor(...)` of its own kind."""

    limit = fields.Integer(load_default=DEFAULT_LIMIT, validate=validate.Range(1, LARGEST_LIMIT))


def page_of(item: type[Schema]) -> type[Schema]:
    """The schema of a page of `item`s."""
    name = item.__name__.removesuffix("Schema")
    envelope = {"items": fields.List(fields.Nested(item)), "next_cursor": fields.String(allow_none=True)}
    return Schema.from_dict(envelope, name=f"{name}PageSchema")  # type: ignore[arg-type,return-value]
