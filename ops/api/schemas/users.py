"""Schemas of users: metadata and numbers of objects, never content."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.auth import RegisterSchema
from app.api.schemas.base import Examples, Schema, WholeNumber
from app.bounds import MAX_BYTES, MAX_TOKENS_PER_DAY
from app.enums import UserRole, UserStatus
from ops.api.reports import schema_of
from ops.api.schemas.reasons import reason_field
from ops.users.keys import ApiKeySummary
from ops.users.receipts import ErasureReceipt

USERS = Pages("users.1", lambda item: (item.id,), IDENTIFIER)
RECEIPTS = Pages("erasures.1", lambda item: (item.id,), IDENTIFIER)

_ROLE = validate.OneOf([role.value for role in UserRole])
_STATUS = validate.OneOf([status.value for status in UserStatus])


class UserSummarySchema(Schema):
    id = fields.UUID()
    email = fields.String()
    name = fields.String(metadata={"description": "Name of the user."})
    role = fields.String(validate=_ROLE, metadata={"description": "What the user may do."})
    status = fields.String(validate=_STATUS, metadata={"description": "Whether the user may log in."})
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class UserDetailsSchema(UserSummarySchema):
    sessions = fields.Integer(metadata={"description": "Number of active sessions."})
    api_keys = fields.Integer(metadata={"description": "Number of active API keys."})
    conversations = fields.Integer(metadata={"description": "Number of conversations."})
    messages = fields.Integer(metadata={"description": "Number of messages."})
    held = fields.Integer(metadata={"description": "Number of conversations under a legal hold."})
    last_active_at = fields.AwareDateTime(allow_none=True, metadata={"description": "Last activity; null without any."})


class UserQuery(PageQuery):
    after = Cursor(USERS)
    email = fields.String(
        load_default=None,
        validate=validate.Length(1, 254),
        metadata={"description": "Only the user with this address."},
    )
    role = fields.String(load_default=None, validate=_ROLE, metadata={"description": "Only users with this role."})
    status = fields.String(
        load_default=None, validate=_STATUS, metadata={"description": "Only users with this status."}
    )


class UserCreationSchema(RegisterSchema):
    EXAMPLES: ClassVar[Examples] = [
        {"email": "grace@example.org", "password": "correct horse battery", "name": "Grace", "role": "operator"}
    ]

    role = fields.String(
        load_default=UserRole.USER.value, validate=_ROLE, metadata={"description": "What the user may do."}
    )


class RoleSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"role": "operator"}]

    role = fields.String(required=True, validate=_ROLE, metadata={"description": "What the user may do."})


class QuotaChoiceSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"tokens_per_day": 100_000}]

    tokens_per_day = WholeNumber(
        required=True,
        allow_none=True,
        validate=validate.Range(1, MAX_TOKENS_PER_DAY),
        metadata={"description": "Tokens per day in UTC; null for no quota."},
    )


class StorageLimitSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"max_bytes": 5_000_000_000}]

    max_bytes = WholeNumber(
        required=True,
        allow_none=True,
        validate=validate.Range(0, MAX_BYTES),
        metadata={"description": "Bytes that the user may store; 0 for no limit, null for USER_MAX_BYTES."},
    )


class ErasureSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"reason": "asked for it on 2026-11-20"}]

    reason = reason_field("Reason for the receipt")


class AccessReasonSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"reason": "request of 2026-11-20 under article 15"}]

    reason = reason_field("Reason for the audit")


class EnqueuedErasureSchema(Schema):
    message_id = fields.UUID(metadata={"description": "Id of the queued message; the recorded run has it too."})
    user_id = fields.UUID()
    rows = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata={"description": "Number of rows to erase."}
    )


class KeysSchema(Schema):
    items = fields.List(fields.Nested(schema_of(ApiKeySummary)), metadata={"description": "The keys, newest first."})


class ReceiptQuery(PageQuery):
    after = Cursor(RECEIPTS)


UserPage = page_of(UserSummarySchema)
ReceiptPage = page_of(schema_of(ErasureReceipt))
