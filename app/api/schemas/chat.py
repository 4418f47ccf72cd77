from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, Flag, PlainText, Schema
from app.api.schemas.turn_options import OPTIONS_EXAMPLE, TurnOptions
from app.api.schemas.turns import MESSAGE_METADATA, TurnSchema, UsageSchema
from app.bounds import USER_CONTENT_LIMIT
from app.enums import MessageRole
from app.services.file_references import MAX_ATTACHED

# For the API's description; `app.api.chat` reads the header.
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
    "description": "1 to 255 printable ASCII characters of your choice. Repeating the request with the same key joins"
    " the turn while it runs, replays it when it is completed, and runs it again if it failed. A different body with"
    " that key is refused.",
}


class AnswerOptions(Schema):
    """Provider of the answer, and the way in which it is delivered."""

    provider = PlainText(
        max_length=20,
        load_default=None,
        allow_none=True,
        metadata={"description": "Provider for this turn, one of `GET /api/models`."},
    )
    model = PlainText(
        max_length=200,
        load_default=None,
        allow_none=True,
        metadata={"description": "Model of the provider for this turn."},
    )
    stream = Flag(
        load_default=None,
        allow_none=True,
        metadata={
            "description": "true: stream the answer as server-sent events. false: send it as JSON. Absent or null: a"
            " stream if `Accept` names `text/event-stream` and does not prefer JSON."
        },
    )
    options = fields.Nested(
        TurnOptions,
        load_default=dict,
        metadata={
            "description": "Options of this turn; each replaces that of the project. Of the tools, those that the"
            " project allows too are offered."
        },
    )


class ChatRequestSchema(AnswerOptions):
    EXAMPLES: ClassVar[Examples] = [
        {"message": "What is a heat pump?", "stream": False},
        {"message": "Which cities are on my list?", "options": OPTIONS_EXAMPLE},
    ]

    message = PlainText(
        max_length=USER_CONTENT_LIMIT,
        required=True,
        metadata={"description": "The user's message, 1 to 10000 characters."},
    )
    conversation_id = fields.UUID(
        load_default=None,
        allow_none=True,
        metadata={"description": "The conversation to continue; absent for a new one."},
    )
    project_id = fields.UUID(
        load_default=None, allow_none=True, metadata={"description": "Project of a new conversation."}
    )
    files = fields.List(
        fields.UUID(),
        load_default=(),
        validate=validate.Length(max=MAX_ATTACHED),
        metadata={"description": "Ids of files to attach to the message; what matches it is sent to the model."},
    )


class ToolApprovalsSchema(AnswerOptions):
    EXAMPLES: ClassVar[Examples] = [
        {"approved": ["call_1"], "stream": False},
        {"approved": [], "options": OPTIONS_EXAMPLE},
    ]

    approved = fields.List(
        PlainText(max_length=200),
        required=True,
        validate=validate.Length(max=32),
        metadata={"description": "Ids of the calls to make. The others are declined; an empty list declines all."},
    )


class ChatMessageSchema(Schema):
    id = fields.String(metadata={"description": "Id of its conversation and its position."})
    position = fields.Integer()
    role = fields.String(validate=validate.OneOf(list(MessageRole)), metadata={"description": "Who wrote the message."})
    content = fields.String(allow_none=True, metadata={"description": "Text of the message; null if it has none."})
    tool_calls = fields.List(fields.Dict(), allow_none=True)
    tool_call_id = fields.String(allow_none=True)
    metadata = fields.Dict(metadata={"description": MESSAGE_METADATA})
    turn_id = fields.UUID(allow_none=True, metadata={"description": "Turn of the message; null if it was imported."})
    created_at = fields.AwareDateTime()


class ChatConversationSchema(Schema):
    id = fields.UUID()
    title = fields.String(allow_none=True, metadata={"description": "Title; null until it has one."})


class ChatAnswerSchema(Schema):
    turn = fields.Nested(TurnSchema, metadata={"description": "The turn."})
    conversation = fields.Nested(
        ChatConversationSchema,
        metadata={"description": "The conversation of the turn, which is new unless the request named one."},
    )
    message = fields.Nested(
        ChatMessageSchema,
        allow_none=True,
        metadata={"description": "Null if the turn was cancelled before the answer began."},
    )
    usage = fields.Nested(UsageSchema, metadata={"description": "Tokens of the turn."})
