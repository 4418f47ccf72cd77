"""An examination, as it stands in the history of jobs."""

from marshmallow import fields, validate

from app.api.schemas.base import Schema
from ops.levels import Level

_LEVEL = validate.OneOf([level.value for level in Level])


class FindingSchema(Schema):
    level = fields.String(validate=_LEVEL)
    what = fields.String(metadata={"description": "What is wrong, and where."})
    evidence = fields.Dict(keys=fields.String())
    remedy = fields.String(allow_none=True, metadata={"description": "The next command, or what else to do."})
    sql = fields.String(allow_none=True, metadata={"description": "The statement that would mend it."})


class AnswerSchema(Schema):
    check = fields.String()
    asks = fields.String()
    level = fields.String(validate=_LEVEL)
    findings = fields.List(fields.Nested(FindingSchema))
    reason = fields.String(allow_none=True, metadata={"description": "Why it could not be judged."})
    remedy = fields.String(allow_none=True)
    runbook = fields.String(metadata={"description": "A page of the project."})
    milliseconds = fields.Integer()


class ExaminationSchema(Schema):
    level = fields.String(validate=_LEVEL, metadata={"description": "The worst of all answers."})
    examined_at = fields.AwareDateTime()
    asked = fields.Integer(metadata={"description": "Checks that were asked."})
    ok = fields.Integer(metadata={"description": "Checks that found nothing."})
    answers = fields.List(fields.Nested(AnswerSchema), metadata={"description": "Of all the other checks."})
