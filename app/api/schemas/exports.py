from datetime import UTC, datetime
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from app.api.schemas.base import Examples, PlainText, Schema, WholeNumber
from app.api.schemas.conversations import Metadata, refuse_extreme_numbers
from app.models import ConversationStatus, MessageRole
from app.models.message import ANSWER_CONTENT_LIMIT, USER_CONTENT_LIMIT
from app.services.exports import FORMATS, VERSION

MOST_MESSAGES = 20_000  # checking one takes 0.04 ms, and all of it is time in which the process does nothing else
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)  # a time before it is no time of a chat


class ExportQuery(Schema):
    format = fields.String(
        load_default="json",
        validate=validate.OneOf(list(FORMATS)),
        metadata={"description": "json can be imported again; markdown is for reading."},
    )


class ExportedMessageSchema(Schema):
    position = WholeNumber(
        load_default=None,
        validate=validate.Range(min=1),
        metadata={"description": "Its place. Counted anew on import, but it must ascend."},
    )
    role = fields.String(required=True, validate=validate.OneOf(list(MessageRole)))
    content = fields.String(load_default=None, allow_none=True, validate=validate.Length(max=ANSWER_CONTENT_LIMIT))
    tool_calls = fields.List(fields.Dict(), load_default=None, allow_none=True, validate=refuse_extreme_numbers)
    tool_call_id = fields.String(load_default=None, allow_none=True, validate=validate.Length(max=200))
    metadata = fields.Dict(attribute="meta", load_default=dict, validate=refuse_extreme_numbers)
    turn_id = fields.UUID(load_default=None, allow_none=True, metadata={"description": "Not taken over on import."})
    created_at = fields.AwareDateTime(
        load_default=None,
        validate=validate.Range(min=_EARLIEST),
        metadata={"description": "Absent, or a time to come: the time of the import."},
    )

    @ma.validates_schema(skip_on_field_errors=True)
    def _content_fits_the_role(self, data: dict[str, Any], **_: Any) -> None:
        if data["role"] == MessageRole.USER and not 1 <= len(data["content"] or "") <= USER_CONTENT_LIMIT:
            raise ma.ValidationError(f"A user's message has 1 to {USER_CONTENT_LIMIT} characters.", "content")


class ExportedConversationSchema(Schema):
    """What is not taken over on import: the id, the project, the count and both times."""

    id = fields.UUID(load_default=None)
    title = PlainText(longest=200, load_default=None, allow_none=True)
    status = fields.String(
        load_default=ConversationStatus.ACTIVE.value, validate=validate.OneOf(list(ConversationStatus))
    )
    project_id = fields.UUID(load_default=None, allow_none=True)
    metadata = Metadata(load_default=dict)
    message_count = WholeNumber(load_default=None)
    created_at = fields.AwareDateTime(load_default=None)
    updated_at = fields.AwareDateTime(load_default=None)


class ExportSchema(Schema):
    """A conversation as a document."""

    EXAMPLES: ClassVar[Examples] = [
        {
            "version": VERSION,
            "conversation": {"title": "Heating the house", "metadata": {"ticket": 4711}},
            "messages": [
                {"role": "user", "content": "What is a heat pump?", "created_at": "2026-03-01T09:30:00Z"},
                {"role": "assistant", "content": "A machine that moves heat.", "created_at": "2026-03-01T09:30:02Z"},
            ],
        }
    ]

    version = WholeNumber(
        required=True,
        validate=validate.Range(VERSION, VERSION, error=f"This server reads version {VERSION} of the document."),
    )
    exported_at = fields.AwareDateTime(load_default=None, metadata={"maxLength": 40})
    conversation = fields.Nested(ExportedConversationSchema, required=True)
    messages = fields.List(
        fields.Nested(ExportedMessageSchema), required=True, validate=validate.Length(max=MOST_MESSAGES)
    )

    @ma.pre_load
    def _bound(self, data: Any, **_: Any) -> Any:
        """What is too much is refused before each message is looked at."""
        if isinstance(data, dict) and isinstance(data.get("messages"), list) and len(data["messages"]) > MOST_MESSAGES:
            raise ma.ValidationError(f"More than {MOST_MESSAGES} messages.", "messages")
        return data

    @ma.validates_schema(skip_on_field_errors=True)
    def _positions_ascend(self, data: dict[str, Any], **_: Any) -> None:
        last = 0
        for place, message in enumerate(data["messages"]):
            if message["position"] is not None and message["position"] <= last:
                raise ma.ValidationError({"messages": {place: {"position": [f"Not after {last}, the one before."]}}})
            last = message["position"] or last
