"""Periods of the reports about the database, and the session to end."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, Schema, WholeNumber
from app.bounds import INTEGER_MAX


class SlowQuery(Schema):
    hours = fields.Float(
        load_default=24, validate=validate.Range(0.1, 24 * 90), metadata={"description": "Period until now."}
    )


class GrowthQuery(Schema):
    weeks = fields.Float(
        load_default=4, validate=validate.Range(0.2, 52), metadata={"description": "Period until now."}
    )


class SessionEndSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"pid": 31959}]

    pid = WholeNumber(
        required=True,
        validate=validate.Range(1, INTEGER_MAX),
        metadata={"description": "Process id of the session, as `GET /api/admin/database/locks` shows it."},
    )
