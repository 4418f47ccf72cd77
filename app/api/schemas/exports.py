from datetime import UTC, datetime
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from app.api.schemas.base import Examples, NestedList, PlainText, Schema, WholeNumber
from app.api.schemas.conversations import Metadata, refuse_extreme_numbers
from app.bounds import ANSWER_CONTENT_LIMIT, INTEGER_MAX, USER_CONTENT_LIMIT
from app.enums import ConversationStatus, MessageRole
from app.services.exports import FORMATS, VERSION

MAX_MESSAGES = 20_000  # validating one takes 0.04 ms
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_USER_CONTENT = PlainText(max_length=USER_CONTENT_LIMIT, required=True)  # as `message` of `POST /api/chat`


class ExportQuery(Schema):
    format = fields.String(
        load_default="json",
        validate=validate.OneOf(list(FORMATS)),
        metadata={"description": "json can be imported; markdown is for reading.", "x-enumeration": "ExportFormat"},
    )


class ExportedMessageSchema(Schema):
    position = WholeNumber(
        load_default=None,
        validate=validate.Range(1, INTEGER_MAX),
        metadata={"description": "Position, in increasing order; the import assigns new ones."},
    )
    role = fields.String(
        required=True, validate=validate.OneOf(list(MessageRole)), metadata={"description": "Who wrote the message."}
    )
    content = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=ANSWER_CONTENT_LIMIT),
        metadata={"description": "Text of the message; a user's message has 1 to 10000 characters and is not blank."},
    )
    tool_calls = fields.List(fields.Dict(), load_default=None, allow_none=True, validate=refuse_extreme_numbers)
    tool_call_id = fields.String(load_default=None, allow_none=True, validate=validate.Length(max=200))
    metadata = fields.Dict(attribute="meta", load_default=dict, validate=refuse_extreme_numbers)
    turn_id = fields.UUID(load_default=None, allow_none=True, metadata={"description": "Ignored on import."})
    created_at = fields.AwareDateTime(
        load_default=None,
        validate=validate.Range(min=_EARLIEST),
        metadata={"description": "If absent or in the future, the time of the import is used."},
    )

    @ma.validates_schema(skip_on_field_errors=True)
    def _check_user_content(self, data: dict[str, Any], **_: Any) -> None:
        if data["role"] != MessageRole.USER:
            return
        try:
            _USER_CONTENT.deserialize(data["content"])
        except ma.ValidationError as error:
            raise ma.ValidationError(error.messages, "content") from None


class ExportedConversationSchema(Schema):
    """The conversation. The import ignores its id, project, message count and times."""

    id = fields.UUID(load_default=None)
    title = PlainText(
        max_length=200, load_default=None, allow_none=True, metadata={"description": "Title; null without one."}
    )
    status = fields.String(
        load_default=ConversationStatus.ACTIVE.value,
        validate=validate.OneOf(list(ConversationStatus)),
        metadata={"description": "Whether it is archived."},
    )
    project_id = fields.UUID(load_default=None, allow_none=True)
    metadata = Metadata(load_default=dict)
    message_count = WholeNumber(
        load_default=None, validate=validate.Range(0, INTEGER_MAX), metadata={"description": "Number of messages."}
    )
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
        metadata={"description": "Version of the document."},
    )
    exported_at = fields.AwareDateTime(
        load_default=None, metadata={"description": "Time of the export; ignored on import.", "maxLength": 40}
    )
    conversation = fields.Nested(
        ExportedConversationSchema, required=True, metadata={"description": "The conversation."}
    )
    messages = NestedList(
        ExportedMessageSchema,
        required=True,
        validate=validate.Length(max=MAX_MESSAGES),
        metadata={"description": "The messages in order, at most 20000."},
    )

    @ma.pre_load
    def _check_message_count(self, data: Any, **_: Any) -> Any:
        """Refuse too many messages before each one is validated."""
        if isinstance(data, dict) and isinstance(data.get("messages"), list) and len(data["messages"]) > MAX_MESSAGES:
            raise ma.ValidationError(f"More than {MAX_MESSAGES} messages.", "messages")
        return data

    @ma.validates_schema(skip_on_field_errors=True)
    def _check_positions(self, data: dict[str, Any], **_: Any) -> None:
        last = 0
        for index, message in enumerate(data["messages"]):
            if message["position"] is not None and message["position"] <= last:
                raise ma.ValidationError(
                    {"messages": {index: {"position": [f"Not greater than {last}, the previous one."]}}}
                )
            last = message["position"] or last
