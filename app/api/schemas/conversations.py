from collections.abc import Iterator
from typing import Any

import marshmallow as ma
import orjson
from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, MOMENT, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import PlainText, Schema
from app.models import ConversationStatus

LARGEST_METADATA = 16 * 1024  # bytes of its JSON
_LARGEST_NUMBER = 2**64
_SMALLEST_NUMBER = 1e-30

CONVERSATIONS = Pages("conversations.1", lambda item: (item.updated_at, item.id), MOMENT, IDENTIFIER)


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
        if any(number and not _SMALLEST_NUMBER <= abs(number) < _LARGEST_NUMBER for number in _numbers(loaded)):
            raise ma.ValidationError("A number is too large or too close to 0; send it as a string.")
        return loaded


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

    title = PlainText(longest=200, allow_none=True)
    project_id = fields.UUID(allow_none=True)
    metadata = Metadata()


class ConversationQuery(PageQuery):
    status = fields.String(
        load_default=ConversationStatus.ACTIVE.value, validate=validate.OneOf(list(ConversationStatus))
    )
    project_id = fields.UUID(load_default=None)
    after = Cursor(CONVERSATIONS)


ConversationPage = page_of(ConversationSchema)
