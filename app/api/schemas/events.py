"""What a stream says of a turn: what the data of each event may be, by the event's name."""

from types import MappingProxyType

from marshmallow import fields, validate

from app.api.schemas.base import Schema
from app.api.schemas.chat import ChatMessageSchema, TurnErrorSchema, TurnSchema


class RunningTurnSchema(Schema):
    """A turn before it has ended."""

    id = fields.UUID()
    conversation_id = fields.UUID()
    status = fields.String(validate=validate.OneOf(["running"]))
    position = fields.Integer(metadata={"description": "Place of the user's message."})
    provider = fields.String()
    model = fields.String(allow_none=True)
    started_at = fields.AwareDateTime()


class DroppedTurnSchema(RunningTurnSchema):
    """A turn whose answer could not be stored; `GET /api/turns/{turn_id}` says what became of it."""

    status = fields.String(validate=validate.OneOf(["failed", "interrupted"]))
    error = fields.Nested(TurnErrorSchema)


class TurnStartedSchema(Schema):
    """The user's message is stored and the provider is being asked."""

    turn = fields.Nested(RunningTurnSchema)


class TurnRestartedSchema(Schema):
    """Another attempt began at a turn that had failed; what was told of the answer before is void."""

    turn = fields.Nested(RunningTurnSchema)


class MessageDeltaSchema(Schema):
    """The next piece of the answer."""

    text = fields.String()


class MessageCompletedSchema(Schema):
    """The answer as it is stored: whole, or what there is of it."""

    message = fields.Nested(ChatMessageSchema)


class TurnEndedSchema(Schema):
    """The last event: the turn as it is stored."""

    turn = fields.Nested(TurnSchema)


class TurnDroppedSchema(Schema):
    """The last event where the end could not be stored."""

    turn = fields.Nested(DroppedTurnSchema)


class GoneTurnSchema(Schema):
    """A turn that was deleted with its conversation."""

    id = fields.UUID()


class TurnGoneSchema(Schema):
    """The last event where the conversation has been deleted meanwhile."""

    turn = fields.Nested(GoneTurnSchema)


EVENT = "TurnEvent"  # the name of any of them in the API's description
ANY_EVENT = {"$ref": f"#/components/schemas/{EVENT}"}
EVENTS: MappingProxyType[str, tuple[type[Schema], ...]] = MappingProxyType(
    {
        "turn.started": (TurnStartedSchema,),
        "turn.restarted": (TurnRestartedSchema,),
        "message.delta": (MessageDeltaSchema,),
        "message.completed": (MessageCompletedSchema,),
        "turn.completed": (TurnEndedSchema,),
        "turn.cancelled": (TurnEndedSchema,),
        "turn.failed": (TurnEndedSchema, TurnDroppedSchema, TurnGoneSchema),
        "turn.interrupted": (TurnEndedSchema, TurnDroppedSchema),
    }
)
