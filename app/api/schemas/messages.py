from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, POSITION, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Schema
from app.api.schemas.turns import MESSAGE_METADATA
from app.enums import MessageRole
from app.turns.views import message_id

MESSAGES = Pages("messages.1", lambda item: (item.position,), POSITION)
PROJECT_MESSAGES = Pages(
    "projects.messages.1", lambda item: (item.conversation_id, item.position), IDENTIFIER, POSITION
)


class MessageSchema(Schema):
    id = fields.Function(
        lambda message: message_id(message.conversation_id, message.position),
        metadata={"type": "string", "description": "Id of its conversation and its position."},
    )
    position = fields.Integer()
    role = fields.String(validate=validate.OneOf(list(MessageRole)), metadata={"description": "Who wrote the message."})
    content = fields.String(allow_none=True, metadata={"description": "Text of the message; null if it has none."})
    tool_calls = fields.List(fields.Dict(), allow_none=True)
    tool_call_id = fields.String(allow_none=True)
    metadata = fields.Dict(attribute="meta", metadata={"description": MESSAGE_METADATA})
    turn_id = fields.UUID(allow_none=True, metadata={"description": "Turn of the message; null if it was imported."})
    created_at = fields.AwareDateTime()


class ProjectMessageSchema(MessageSchema):
    conversation_id = fields.UUID(metadata={"description": "Conversation of the message."})


class MessageQuery(PageQuery):
    order = fields.String(
        load_default="asc",
        validate=validate.OneOf(["asc", "desc"]),
        metadata={
            "description": "asc starts with the oldest message, desc with the newest.",
            "x-enumeration": "MessageOrder",
        },
    )
    after = Cursor(MESSAGES)


class ProjectMessageQuery(PageQuery):
    order = fields.String(
        load_default="asc",
        validate=validate.OneOf(["asc", "desc"]),
        metadata={
            "description": "asc starts with the oldest conversation, desc with the newest message of the newest one.",
            "x-enumeration": "MessageOrder",
        },
    )
    after = Cursor(PROJECT_MESSAGES)


MessagePage = page_of(MessageSchema)
ProjectMessagePage = page_of(ProjectMessageSchema)
