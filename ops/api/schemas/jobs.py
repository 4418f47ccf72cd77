"""The history of jobs, as operators read it."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Schema
from app.models.job_run import JobRunStatus
from ops.catalogue import JOBS

RUNS = Pages("job_runs.1", lambda item: (item.id,), IDENTIFIER)

_STATUS = validate.OneOf(list(JobRunStatus))


class JobSchema(Schema):
    job = fields.String(metadata={"description": "Its name."})
    when = fields.String(metadata={"description": "Its schedule in words."})
    last = fields.String(allow_none=True, validate=_STATUS, metadata={"description": "How its last run ended."})
    attempted = fields.AwareDateTime(allow_none=True, metadata={"description": "When it last began."})
    succeeded = fields.AwareDateTime(allow_none=True, metadata={"description": "When it last succeeded."})
    due = fields.AwareDateTime(allow_none=True, metadata={"description": "Null where it is asked for by others."})
    does = fields.String()


class JobsSchema(Schema):
    items = fields.List(fields.Nested(JobSchema))


class RunSchema(Schema):
    id = fields.UUID()
    job = fields.String()
    status = fields.String(validate=_STATUS)
    started_at = fields.AwareDateTime()
    seconds = fields.Float(allow_none=True, metadata={"description": "Null while it is under way."})
    attempt = fields.Integer(metadata={"description": "Counts the deliveries of one message from 1."})
    worker = fields.String(allow_none=True, metadata={"description": "host:pid"})
    reason = fields.String(allow_none=True, metadata={"description": "Why it did not succeed."})
    report = fields.Dict(keys=fields.String(), allow_none=True)


class RunQuery(PageQuery):
    after = Cursor(RUNS)
    job = fields.String(load_default=None, validate=validate.OneOf([job.name for job in JOBS]))
    status = fields.String(load_default=None, validate=_STATUS)


class AskedSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"message_id": "01890a5d-ac96-774b-bcce-b302099a8057"}]

    message_id = fields.UUID(metadata={"description": "Of the message in the queue; the history's runs tell it, too."})


RunPage = page_of(RunSchema)
