from marshmallow import fields, validate

from app.api.schemas.base import Schema

_STATUS = validate.OneOf(["ok", "unavailable"])


class HealthSchema(Schema):
    status = fields.String(validate=_STATUS, metadata={"description": "Whether the server can answer messages."})
    detail = fields.String(metadata={"description": "One sentence: what is wrong and what to do."})


class LiveSchema(Schema):
    status = fields.String(validate=validate.OneOf(["ok"]), metadata={"description": "Always ok."})


class ReadyPartsSchema(Schema):
    """The state of each part: "ok" or a sentence that describes the problem."""

    database = fields.String(metadata={"description": "Connection to the database."})
    migrations = fields.String(metadata={"description": "Whether the schema of the database is that of this code."})
    broker = fields.String(metadata={"description": "Chat works without it, but jobs do not run."})


class ReadySchema(Schema):
    status = fields.String(validate=_STATUS, metadata={"description": "Whether the server can answer messages."})
    parts = fields.Nested(
        ReadyPartsSchema, metadata={"description": "Only for callers who may read /metrics.", "x-optional": True}
    )
