from marshmallow import fields, validate

from app.api.pagination import POSITION, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Schema
from app.models import MessageRole
from app.services.turn_views import message_id

MESSAGES = Pages("messages.1", lambda item: (item.position,), POSITION)


class MessageSchema(Schema):
    id = fields.Function(
        lambda message: message_id(message.conversation_id, message.position),
        metadata={"type": "string", "description": "Its conversation's id and its position."},
    )
    position = fields.Integer()
    role = fields.String(validate=validate.OneOf(list(MessageRole)))
    content = fields.String(allow_none=True)
    tool_calls = fields.List(fields.Dict(), allow_none=True)
    tool_call_id = fields.String(allow_none=True)
    metadata = fields.Dict(attribute="meta")
    turn_id = fields.UUID(allow_none=True)
    created_at = fields.AwareDateTime()


class MessageQuery(PageQuery):
    order = fields.String(
        load_default="asc",
        validate=validate.OneOf(["asc", "desc"]),
        metadata={"description": "asc begins with the oldest message, desc with the newest."},
    )
    after = Cursor(MESSAGES)


MessagePage = page_of(MessageSchema)
