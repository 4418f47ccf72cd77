from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, Flag, PlainText, Schema
from app.models import MessageRole
from app.models.message import USER_CONTENT_LIMIT

# For the API's description; `app.api.chat` reads the header.
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
    "description": "1 to 255 printable ASCII characters of your choice. The same key with the same body joins the turn"
    " while it runs, tells it again when it is done and runs it again if it failed; with another body it is refused.",
}
LAST_EVENT_ID = {
    "in": "header",
    "name": "Last-Event-ID",
    "required": False,
    "schema": {"type": "string", "pattern": "^[0-9]{0,10}$"},
    "description": "The `id` of the last event that you have; the stream goes on after it. Browsers send it.",
}


class ChatRequestSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"message": "What is a heat pump?", "stream": False}]

    message = PlainText(
        longest=USER_CONTENT_LIMIT,
        required=True,
        metadata={"description": "What the person says, 1..10000 characters."},
    )
    conversation_id = fields.UUID(
        load_default=None,
        allow_none=True,
        metadata={"description": "The conversation to go on with; absent: a new one."},
    )
    project_id = fields.UUID(
        load_default=None, allow_none=True, metadata={"description": "The project of a new conversation."}
    )
    provider = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(1, 20),
        metadata={"description": "One of the operator's providers, for this turn."},
    )
    model = PlainText(
        longest=200, load_default=None, allow_none=True, metadata={"description": "A model of it, for this turn."}
    )
    stream = Flag(
        load_default=False,
        metadata={"description": "Answer as server-sent events; so does `Accept: text/event-stream`."},
    )


class UsageSchema(Schema):
    input_tokens = fields.Integer(allow_none=True)
    output_tokens = fields.Integer(allow_none=True)


class TurnErrorSchema(Schema):
    code = fields.String()
    detail = fields.String()


class TurnSchema(Schema):
    id = fields.UUID()
    conversation_id = fields.UUID()
    status = fields.String(validate=validate.OneOf(["running", "completed", "failed", "cancelled", "interrupted"]))
    position = fields.Integer(metadata={"description": "Place of the user's message."})
    answer_position = fields.Integer(
        allow_none=True, metadata={"description": "Place of the answer, once there is one."}
    )
    provider = fields.String()
    model = fields.String(allow_none=True)
    finish_reason = fields.String(allow_none=True)
    usage = fields.Nested(UsageSchema)
    error = fields.Nested(TurnErrorSchema, allow_none=True)
    started_at = fields.AwareDateTime()
    first_token_at = fields.AwareDateTime(allow_none=True)
    finished_at = fields.AwareDateTime(allow_none=True)


class ChatMessageSchema(Schema):
    id = fields.String(metadata={"description": "Its conversation's id and its position."})
    position = fields.Integer()
    role = fields.String(validate=validate.OneOf(list(MessageRole)))
    content = fields.String(allow_none=True)
    tool_calls = fields.List(fields.Dict(), allow_none=True)
    tool_call_id = fields.String(allow_none=True)
    metadata = fields.Dict()
    turn_id = fields.UUID(allow_none=True)
    created_at = fields.AwareDateTime()


class ChatConversationSchema(Schema):
    id = fields.UUID()
    title = fields.String(allow_none=True)


class ChatAnswerSchema(Schema):
    turn = fields.Nested(TurnSchema)
    conversation = fields.Nested(ChatConversationSchema)
    message = fields.Nested(
        ChatMessageSchema, allow_none=True, metadata={"description": "null: cancelled before there was any of it."}
    )
    usage = fields.Nested(UsageSchema)
