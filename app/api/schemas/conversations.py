import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

import marshmallow as ma
import orjson
from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, LONGEST_CURSOR, MOMENT, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, PlainText, Schema
from app.models import ConversationStatus

LARGEST_METADATA = 16 * 1024  # bytes of its JSON
_LARGEST_NUMBER = 2**64
_SMALLEST_NUMBER = 1e-30

LONGEST_SEARCH = 200  # characters


def _pages(tag: str) -> Pages:
    return Pages(tag, lambda item: (item.updated_at, item.id), MOMENT, IDENTIFIER)


CONVERSATIONS = _pages("conversations.1")


def pages_of(status: str, project_id: UUID | None, q: str | None) -> Pages:
    """The pages of one choice among the conversations; they refuse the cursor of another choice."""
    if (status, project_id, q) == (ConversationStatus.ACTIVE, None, None):
        return CONVERSATIONS
    choice = hashlib.sha256(orjson.dumps([status, project_id, q])).hexdigest()
    return _pages(f"conversations.1.{choice[:16]}")


class Metadata(fields.Dict):
    """A JSON object of the caller's own, at most 16 KiB. It nests no deeper than any body may.

    Extreme numbers are refused: integers over 64 bits have lost digits by the time we see them, and PostgreSQL writes
    1e308 out in full, which would let 16 KiB come back as a megabyte.
    """

    def __init__(self, **options: Any) -> None:
        described = {"description": "Any JSON object of at most 16 KiB; replaced whole."}
        super().__init__(attribute="meta", metadata=described, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        loaded = super()._deserialize(value, attr, data, **options)  # type: ignore[no-untyped-call]
        if len(orjson.dumps(loaded)) > LARGEST_METADATA:
            raise ma.ValidationError(f"Larger than {LARGEST_METADATA} bytes as JSON.")
        refuse_extreme_numbers(loaded)
        return loaded


def refuse_extreme_numbers(value: Any) -> None:
    """Raises `ValidationError` where there is one in `value`, which is anything that JSON can say."""
    if any(number and not _SMALLEST_NUMBER <= abs(number) < _LARGEST_NUMBER for number in _numbers(value)):
        raise ma.ValidationError("A number is too large or too close to 0; send it as a string.")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


class ConversationSchema(Schema):
    id = fields.UUID()
    title = fields.String(allow_none=True)
    preview = fields.String(allow_none=True, metadata={"description": "The start of the newest message."})
    status = fields.String(validate=validate.OneOf(list(ConversationStatus)))
    project_id = fields.UUID(allow_none=True)
    metadata = Metadata()
    message_count = fields.Integer()
    legal_hold = fields.Boolean()
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime(metadata={"description": "When its last message came."})


class ConversationChange(Schema):
    """What may be set; whatever is left out stays."""

    EXAMPLES: ClassVar[Examples] = [{"title": "Heating the house", "metadata": {"ticket": 4711}}]

    title = PlainText(longest=200, allow_none=True)
    project_id = fields.UUID(allow_none=True)
    metadata = Metadata()


class ConversationQuery(PageQuery):
    status = fields.String(
        load_default=ConversationStatus.ACTIVE.value, validate=validate.OneOf(list(ConversationStatus))
    )
    project_id = fields.UUID(load_default=None)
    q = PlainText(
        longest=LONGEST_SEARCH,
        load_default=None,
        metadata={
            "description": 'Words of the title or the messages; "a phrase", -without, or. The last may only begin '
            "a word. What was said is found some seconds later."
        },
    )
    cursor = fields.String(
        load_default=None,
        metadata={
            "description": "`next_cursor` of the page before, asked for with the same filters.",
            "maxLength": LONGEST_CURSOR,
        },
    )

    @ma.post_load
    def _open_cursor(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        pages, cursor = pages_of(data["status"], data["project_id"], data["q"]), data.pop("cursor")
        return {**data, "pages": pages, "after": None if cursor is None else pages.decode(cursor)}


ConversationPage = page_of(ConversationSchema)
