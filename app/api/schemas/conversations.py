import hashlib
from typing import Any, ClassVar
from uuid import UUID

import marshmallow as ma
import orjson
from marshmallow import fields, validate

from app.api.json_values import children, levels
from app.api.pagination import IDENTIFIER, MOMENT, RANK, FilteredCursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, PlainText, Schema
from app.bounds import SEARCH_LIMIT
from app.enums import ConversationStatus
from app.turns.views import message_id

LARGEST_METADATA = 16 * 1024  # bytes of its JSON
_LARGEST_NUMBER = 2**64
_SMALLEST_NUMBER = 1e-30

ALL = "all"  # every status
UPDATED, RELEVANCE = "updated", "relevance"  # orders


def _pages(tag: str) -> Pages:
    return Pages(tag, lambda item: (item.conversation.updated_at, item.conversation.id), MOMENT, IDENTIFIER)


CONVERSATIONS = _pages("conversations.1")


def pages_of(status: str, project_id: UUID | None, q: str | None, sort: str) -> Pages:
    """Return the pages of a filtered and sorted list; they refuse cursors of other filters."""
    if (status, project_id, q, sort) == (ConversationStatus.ACTIVE, None, None, UPDATED):
        return CONVERSATIONS
    filters = hashlib.sha256(orjson.dumps([status, project_id, q, sort])).hexdigest()
    tag = f"conversations.2.{filters[:16]}"
    if sort == RELEVANCE:
        return Pages(tag, lambda item: (item.rank, item.conversation.id), RANK, IDENTIFIER)
    return _pages(tag)


class Metadata(fields.Dict):
    """A JSON object of the caller's choice, at most 16 KiB. The nesting limit of bodies applies.

    Extreme numbers are refused: orjson parses integers above 64 bits as floats and loses digits, and PostgreSQL expands
    1e308 to all its digits, so that 16 KiB would be returned as a megabyte.
    """

    def __init__(self, **options: Any) -> None:
        metadata = {"description": "Any JSON object of at most 16 KiB; a change replaces all of it."}
        super().__init__(attribute="meta", metadata=metadata, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        loaded = super()._deserialize(value, attr, data, **options)  # type: ignore[no-untyped-call]
        if len(orjson.dumps(loaded)) > LARGEST_METADATA:
            raise ma.ValidationError(f"Larger than {LARGEST_METADATA} bytes as JSON.")
        refuse_extreme_numbers(loaded)
        return loaded


def refuse_extreme_numbers(value: Any) -> None:
    """Raise `ValidationError` if the JSON object or array contains a number that is too large or too close to 0."""
    for level in levels(value):
        for container in level:
            if any(
                number and not _SMALLEST_NUMBER <= abs(number) < _LARGEST_NUMBER
                for number in children(container)
                if isinstance(number, int | float)
            ):
                raise ma.ValidationError("A number is too large or too close to 0; send it as a string.")


class ConversationSchema(Schema):
    id = fields.UUID()
    title = fields.String(allow_none=True, metadata={"description": "Title; null until it has one."})
    preview = fields.String(allow_none=True, metadata={"description": "Beginning of the newest message."})
    status = fields.String(
        validate=validate.OneOf(list(ConversationStatus)), metadata={"description": "Whether it is archived."}
    )
    project_id = fields.UUID(
        allow_none=True, metadata={"description": "Project of the conversation; null without one."}
    )
    metadata = Metadata()
    message_count = fields.Integer()
    legal_hold = fields.Boolean()
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime(metadata={"description": "Time of the last message."})


class ConversationChange(Schema):
    """The fields to set; omitted fields are not changed."""

    EXAMPLES: ClassVar[Examples] = [{"title": "Heating the house", "metadata": {"ticket": 4711}}]

    title = PlainText(max_length=200, allow_none=True, metadata={"description": "Title; null removes it."})
    project_id = fields.UUID(
        allow_none=True, metadata={"description": "Project; null removes the conversation from its project."}
    )
    metadata = Metadata()


class SnippetPartSchema(Schema):
    text = fields.String(metadata={"description": "A piece of the message's text."})
    match = fields.Boolean(metadata={"description": "Whether this piece is one of the words."})


class HitSchema(Schema):
    """The message of a conversation that matches a search best."""

    message_id = fields.Function(
        lambda hit: message_id(hit.conversation_id, hit.position),
        metadata={"type": "string", "description": "Id of the message."},
    )
    position = fields.Integer(metadata={"description": "Position of the message in its conversation, from 1."})
    snippet = fields.List(
        fields.Nested(SnippetPartSchema),
        metadata={"description": "Up to 200 characters of the message around the first word, in pieces."},
    )


class ListedConversationSchema(ConversationSchema):
    """A conversation in a list; in a search with its hit."""

    hit = fields.Nested(
        HitSchema,
        allow_none=True,
        metadata={"description": "The match of `q`; null without `q`, or if only the title matches."},
    )

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Read the hit from the list's item, and every other field from its conversation."""
        return super().get_attribute(obj if attr == "hit" else obj.conversation, attr, default)


class ConversationQuery(PageQuery):
    status = fields.String(
        load_default=ConversationStatus.ACTIVE.value,
        validate=validate.OneOf([*ConversationStatus, ALL]),
        metadata={
            "description": "Only conversations of this status; `all` for every one.",
            "x-enumeration": "ConversationFilter",
        },
    )
    project_id = fields.UUID(load_default=None, metadata={"description": "Only conversations of this project."})
    q = PlainText(
        max_length=SEARCH_LIMIT,
        load_default=None,
        metadata={
            "description": 'Words in the title or the messages: all of them; "a phrase"; -excluded; or. The last word '
            "matches as a prefix. New messages are found after some seconds. See docs/search.md."
        },
    )
    sort = fields.String(
        load_default=UPDATED,
        validate=validate.OneOf([UPDATED, RELEVANCE]),
        metadata={
            "description": "`updated`: newest update first; `relevance`: best match first, only with `q`.",
            "x-enumeration": "ConversationOrder",
        },
    )
    cursor = FilteredCursor()

    @ma.post_load
    def _open_cursor(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        if data["sort"] == RELEVANCE and data["q"] is None:
            raise ma.ValidationError({"sort": ["`relevance` needs a search: send `q` too."]})
        pages = pages_of(data["status"], data["project_id"], data["q"], data["sort"])
        cursor = data.pop("cursor")
        return {**data, "pages": pages, "after": None if cursor is None else pages.decode(cursor)}


ConversationPage = page_of(ListedConversationSchema)
