"""Schemas of the data of stream events, by event name."""

from types import MappingProxyType

from marshmallow import fields, validate

from app.api.schemas.base import Schema
from app.api.schemas.chat import ChatConversationSchema, ChatMessageSchema
from app.api.schemas.turns import TurnErrorSchema, TurnSchema


class RunningTurnSchema(Schema):
    """A running turn."""

    id = fields.UUID()
    conversation_id = fields.UUID()
    status = fields.String(validate=validate.OneOf(["running"]), metadata={"description": "State of the turn."})
    position = fields.Integer(metadata={"description": "Position of the user's message."})
    provider = fields.String()
    model = fields.String(allow_none=True)
    started_at = fields.AwareDateTime()


class DroppedTurnSchema(RunningTurnSchema):
    """A turn whose answer could not be stored; `GET /api/turns/{turn_id}` returns its final state."""

    status = fields.String(
        validate=validate.OneOf(["failed", "interrupted"]), metadata={"description": "State of the turn."}
    )
    error = fields.Nested(TurnErrorSchema, metadata={"description": "Why the turn ended."})


class TurnStartedSchema(Schema):
    """The user's message is stored and the request to the provider has started."""

    turn = fields.Nested(RunningTurnSchema, metadata={"description": "The running turn."})
    conversation = fields.Nested(ChatConversationSchema, metadata={"description": "The conversation of the turn."})


class TurnRestartedSchema(Schema):
    """The answer starts from its beginning: discard all deltas received so far.

    A new attempt at a failed turn has started, or the events after `Last-Event-ID` are no longer stored.
    """

    turn = fields.Nested(RunningTurnSchema, metadata={"description": "The running turn."})
    conversation = fields.Nested(ChatConversationSchema, metadata={"description": "The conversation of the turn."})


class MessageDeltaSchema(Schema):
    """The next part of the answer."""

    text = fields.String(metadata={"description": "Text to append to the answer."})


class ToolCallSchema(Schema):
    """The model calls a tool. The text before it is a message of its own; later deltas begin a new one."""

    id = fields.String(metadata={"description": "Id of the call, unique within the turn."})
    name = fields.String(metadata={"description": "Name of the tool."})
    arguments = fields.String(metadata={"description": "Arguments of the call, a JSON object as text."})
    round = fields.Integer(metadata={"description": "Round of calls that are made at the same time, from 1."})


class ToolResultSchema(Schema):
    """A call has ended. The calls of a round end in any order."""

    id = fields.String(metadata={"description": "Id of the call."})
    name = fields.String(metadata={"description": "Name of the tool."})
    content = fields.String(metadata={"description": "Result that the model reads: data, to be shown as plain text."})
    is_error = fields.Boolean(metadata={"description": "Whether the call failed."})
    round = fields.Integer(metadata={"description": "Round of the call."})


class MessageCompletedSchema(Schema):
    """The answer as stored, complete or partial."""

    message = fields.Nested(ChatMessageSchema, metadata={"description": "The message of the answer."})


class TurnEndedSchema(Schema):
    """The last event: the turn as stored."""

    turn = fields.Nested(TurnSchema, metadata={"description": "The turn in its final state."})


class TurnDroppedSchema(Schema):
    """The last event if the end of the turn could not be stored."""

    turn = fields.Nested(DroppedTurnSchema, metadata={"description": "The turn, with the reason."})


class GoneTurnSchema(Schema):
    """A turn that was deleted with its conversation."""

    id = fields.UUID()


class TurnGoneSchema(Schema):
    """The last event if the conversation was deleted during the turn."""

    turn = fields.Nested(GoneTurnSchema, metadata={"description": "The turn that was deleted."})


EVENT = "TurnEvent"  # name of their common schema in the API's description
ANY_EVENT = {"$ref": f"#/components/schemas/{EVENT}"}
EVENTS: MappingProxyType[str, tuple[type[Schema], ...]] = MappingProxyType(
    {
        "turn.started": (TurnStartedSchema,),
        "turn.restarted": (TurnRestartedSchema,),
        "message.delta": (MessageDeltaSchema,),
        "tool.call": (ToolCallSchema,),
        "tool.result": (ToolResultSchema,),
        "message.completed": (MessageCompletedSchema,),
        "turn.completed": (TurnEndedSchema,),
        "turn.cancelled": (TurnEndedSchema,),
        "turn.failed": (TurnEndedSchema, TurnDroppedSchema, TurnGoneSchema),
        "turn.interrupted": (TurnEndedSchema, TurnDroppedSchema),
    }
)
