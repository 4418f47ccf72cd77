"""Schemas of the audit."""

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Schema
from app.enums import AuditResult

ENTRIES = Pages("audit_events.1", lambda item: (item.id,), IDENTIFIER)


class AuditEntrySchema(Schema):
    id = fields.UUID()
    created_at = fields.AwareDateTime(metadata={"description": "When it happened."})
    actor_kind = fields.String(
        validate=validate.OneOf(["command", "user", "job", "anonymous"]),
        metadata={"description": "Who acted: a command, a user, a job, or a caller without a valid credential."},
    )
    actor = fields.String(
        metadata={
            "description": "User id; `login@host` for a command; name of a job; network of a caller without credential."
        }
    )
    address = fields.String(allow_none=True, metadata={"description": "Client address of the request."})
    action = fields.String(metadata={"description": "What was done, as `noun.verb`."})
    target = fields.String(
        allow_none=True, metadata={"description": "What the action changed: a user id, a job name ..."}
    )
    result = fields.String(
        validate=validate.OneOf(list(AuditResult)), metadata={"description": "How far the action got."}
    )
    reason = fields.String(allow_none=True, metadata={"description": "Why the action was refused or failed."})
    details = fields.Dict(keys=fields.String(), metadata={"description": "Further facts about the action."})
    request_id = fields.String(allow_none=True)


class AuditQuery(PageQuery):
    after = Cursor(ENTRIES)
    target = fields.String(
        load_default=None, validate=validate.Length(1, 255), metadata={"description": "Only actions on this target."}
    )
    action = fields.String(
        load_default=None,
        validate=validate.Length(1, 100),
        metadata={"description": "Only this action, such as `user.disable`."},
    )


AuditPage = page_of(AuditEntrySchema)
