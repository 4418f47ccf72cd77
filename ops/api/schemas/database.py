"""How far back to look."""

from marshmallow import fields, validate

from app.api.schemas.base import Schema


class SlowQuery(Schema):
    hours = fields.Float(load_default=24, validate=validate.Range(0.1, 24 * 90))


class GrowthQuery(Schema):
    weeks = fields.Float(load_default=4, validate=validate.Range(0.2, 52))
