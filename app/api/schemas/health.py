from marshmallow import fields, validate

from app.api.schemas.base import Schema

_STATUS = validate.OneOf(["ok", "unavailable"])


class HealthSchema(Schema):
    status = fields.String(validate=_STATUS)
    detail = fields.String(metadata={"description": "What is wrong and what to do, in a sentence."})


class LiveSchema(Schema):
    status = fields.String(validate=validate.OneOf(["ok"]))


class ReadyPartsSchema(Schema):
    """Each is "ok" or a sentence that says what is wrong."""

    database = fields.String()
    migrations = fields.String()
    broker = fields.String(metadata={"description": "Without it chat works and jobs wait."})


class ReadySchema(Schema):
    status = fields.String(validate=_STATUS)
    parts = fields.Nested(
        ReadyPartsSchema, metadata={"description": "Only for whoever may see /metrics.", "x-optional": True}
    )
