"""Schemas of the doctor's report and of acknowledged findings."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, Schema
from app.bounds import FINDING_OBJECT_LIMIT
from ops.api.schemas.reasons import reason_field
from ops.levels import Level

_LEVEL = validate.OneOf([level.value for level in Level])


class _Acknowledgement(Schema):
    id = fields.UUID(metadata={"description": "Id of the acknowledgement."})
    check = fields.String(metadata={"description": "Id of the check."})
    object = fields.String(metadata={"description": "What the finding is about; empty if it has no object."})
    level = fields.String(validate=_LEVEL, metadata={"description": "The worst level that is covered."})
    reason = fields.String(metadata={"description": "Why the finding is accepted."})
    by = fields.String(metadata={"description": "Who acknowledged the finding."})
    active = fields.Boolean(metadata={"description": "False after the last day."})


class AcknowledgementSchema(_Acknowledgement):
    until = fields.Date(metadata={"description": "The last day, in UTC."})
    at = fields.AwareDateTime(metadata={"description": "When it was acknowledged."})


class StoredAcknowledgementSchema(_Acknowledgement):
    """An acknowledgement in a stored report, which is JSON: its times are texts."""

    until = fields.String(metadata={"description": "The last day, in UTC.", "format": "date"})
    at = fields.String(metadata={"description": "When it was acknowledged.", "format": "date-time"})


class AcknowledgementsSchema(Schema):
    items = fields.List(fields.Nested(AcknowledgementSchema), metadata={"description": "Sorted by check and object."})


class AcknowledgementCreation(Schema):
    """The object may be omitted if the check reports findings on one object only."""

    EXAMPLES: ClassVar[Examples] = [
        {
            "check": "connection.latency",
            "object": "",
            "reason": "The database moves to this region in autumn.",
            "until": "2030-09-30",
        }
    ]

    check = fields.String(required=True, validate=validate.Length(1, 100), metadata={"description": "Id of the check."})
    object = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(0, FINDING_OBJECT_LIMIT),
        metadata={"description": "The object of the finding, as the report shows it."},
    )
    reason = reason_field("Why the finding is acceptable")
    until = fields.Date(
        required=True,
        metadata={"description": "The last day, in UTC; at most ten years from now.", "pattern": r"^\d{4}-\d\d-\d\d$"},
    )


class FindingSchema(Schema):
    level = fields.String(validate=_LEVEL, metadata={"description": "Severity of the finding."})
    message = fields.String(metadata={"description": "What is wrong and where."})
    object = fields.String(metadata={"description": "What the finding is about, such as a table; or empty."})
    acknowledgement = fields.Nested(
        StoredAcknowledgementSchema, allow_none=True, metadata={"description": "The acknowledgement of this finding."}
    )
    evidence = fields.Dict(keys=fields.String(), metadata={"description": "What was measured."})
    remedy = fields.String(allow_none=True, metadata={"description": "The next step, usually a command."})
    sql = fields.String(allow_none=True, metadata={"description": "Statement that fixes it."})


class CheckResultSchema(Schema):
    check = fields.String(metadata={"description": "Name of the check."})
    question = fields.String(metadata={"description": "The question that the check answers."})
    level = fields.String(
        validate=_LEVEL,
        metadata={"description": "The worst level of its findings; unknown if the state could not be determined."},
    )
    findings = fields.List(fields.Nested(FindingSchema), metadata={"description": "What is wrong."})
    reason = fields.String(allow_none=True, metadata={"description": "Why the level is unknown."})
    remedy = fields.String(
        allow_none=True, metadata={"description": "How to make the state known, if it is unknown; null otherwise."}
    )
    runbook = fields.String(metadata={"description": "Path of the runbook in the project."})
    milliseconds = fields.Integer(metadata={"description": "Duration of the check."})


class DoctorReportSchema(Schema):
    level = fields.String(validate=_LEVEL, metadata={"description": "The worst level of all checks."})
    checked_at = fields.AwareDateTime(metadata={"description": "When the checks ran."})
    checked = fields.Integer(metadata={"description": "Number of checks that ran."})
    ok = fields.Integer(metadata={"description": "Number of checks without a finding."})
    results = fields.List(
        fields.Nested(CheckResultSchema),
        metadata={"description": "Results of the checks that have findings or are not ok."},
    )
