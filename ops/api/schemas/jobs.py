"""Schemas of jobs and their recorded runs."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Flag, Schema
from app.enums import JobRunStatus
from ops.api.schemas.reasons import reason_field
from ops.catalogue.jobs import JOBS

RUNS = Pages("job_runs.1", lambda item: (item.id,), IDENTIFIER)

_STATUS = validate.OneOf(list(JobRunStatus))


class JobSchema(Schema):
    job = fields.String(metadata={"description": "Name of the job."})
    schedule = fields.String(metadata={"description": "Schedule in words; `on request` without one."})
    last_status = fields.String(allow_none=True, validate=_STATUS, metadata={"description": "Status of the last run."})
    last_started_at = fields.AwareDateTime(allow_none=True, metadata={"description": "Start of the last run."})
    last_succeeded_at = fields.AwareDateTime(
        allow_none=True, metadata={"description": "End of the last run that succeeded."}
    )
    next_due_at = fields.AwareDateTime(allow_none=True, metadata={"description": "Next slot; null without a schedule."})
    paused_since = fields.AwareDateTime(allow_none=True, metadata={"description": "When it was paused; null if not."})
    pause_reason = fields.String(allow_none=True, metadata={"description": "Why it is paused; null if it is not."})
    description = fields.String(metadata={"description": "What the job does."})


class JobsSchema(Schema):
    items = fields.List(fields.Nested(JobSchema), metadata={"description": "All jobs."})


class RunSchema(Schema):
    id = fields.UUID()
    job = fields.String(metadata={"description": "Name of the job."})
    status = fields.String(validate=_STATUS, metadata={"description": "State of the run."})
    started_at = fields.AwareDateTime()
    seconds = fields.Float(allow_none=True, metadata={"description": "Duration; null while the run is in progress."})
    attempt = fields.Integer(metadata={"description": "Delivery of the message, counted from 1."})
    worker = fields.String(allow_none=True, metadata={"description": "`host:pid` of the process."})
    reason = fields.String(allow_none=True, metadata={"description": "Why the run did not succeed."})
    report = fields.Dict(
        keys=fields.String(), allow_none=True, metadata={"description": "Report of the job; null until it succeeds."}
    )


class RunQuery(PageQuery):
    after = Cursor(RUNS)
    job = fields.String(
        load_default=None,
        validate=validate.OneOf([job.name for job in JOBS]),
        metadata={"description": "Only runs of this job.", "x-enumeration": "JobName"},
    )
    status = fields.String(load_default=None, validate=_STATUS, metadata={"description": "Only runs in this state."})


class RunRequestSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{}, {"dry_run": True}]

    dry_run = Flag(
        load_default=False, metadata={"description": "Report what the job would change, without changing it."}
    )


class PauseSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"reason": "the store is moved on 2026-11-20"}]

    reason = reason_field("Why it is paused")


class CancellationSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"reason": "it blocks the nightly backup"}]

    reason = reason_field("Why it is cancelled")


class EnqueuedSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"message_id": "01890a5d-ac96-774b-bcce-b302099a8057"}]

    message_id = fields.UUID(metadata={"description": "Id of the queued message; the recorded run has it too."})


RunPage = page_of(RunSchema)
