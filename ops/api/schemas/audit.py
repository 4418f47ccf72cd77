"""The audit, as operators read it."""

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Schema
from app.models import AuditResult

ACTS = Pages("audit_events.1", lambda item: (item.id,), IDENTIFIER)


class ActSchema(Schema):
    id = fields.UUID()
    created_at = fields.AwareDateTime()
    actor_kind = fields.String(validate=validate.OneOf(["command", "user", "job"]))
    actor = fields.String(metadata={"description": "A user's id, or an account and host at a command line."})
    address = fields.String(allow_none=True, metadata={"description": "Where the request came from."})
    action = fields.String(metadata={"description": "noun.verb"})
    target = fields.String(allow_none=True, metadata={"description": "Whom or what it was done to."})
    result = fields.String(validate=validate.OneOf(list(AuditResult)))
    reason = fields.String(allow_none=True, metadata={"description": "Why it was refused or failed."})
    details = fields.Dict(keys=fields.String())
    request_id = fields.String(allow_none=True)


class ActQuery(PageQuery):
    after = Cursor(ACTS)
    target = fields.String(load_default=None, validate=validate.Length(1, 255))
    action = fields.String(load_default=None, validate=validate.Length(1, 100))


ActPage = page_of(ActSchema)
