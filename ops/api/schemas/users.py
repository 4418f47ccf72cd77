"""Accounts as operators see them: how much there is, never what it says."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.auth import RegisterSchema
from app.api.schemas.base import Examples, PlainText, Schema, WholeNumber
from app.models import UserRole, UserStatus
from ops.accounts.erasure import Receipt
from ops.accounts.keys import Key
from ops.accounts.reading import SHORTEST_REASON
from ops.api.reports import schema_of

USERS = Pages("users.1", lambda item: (item.id,), IDENTIFIER)
RECEIPTS = Pages("erasures.1", lambda item: (item.id,), IDENTIFIER)

_ROLE = validate.OneOf([role.value for role in UserRole])
_STATUS = validate.OneOf([status.value for status in UserStatus])


class PersonSchema(Schema):
    id = fields.UUID()
    email = fields.String()
    name = fields.String()
    role = fields.String(validate=_ROLE)
    status = fields.String(validate=_STATUS)
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class PersonInFullSchema(PersonSchema):
    sessions = fields.Integer(metadata={"description": "Live ones."})
    api_keys = fields.Integer(metadata={"description": "Live ones."})
    conversations = fields.Integer()
    messages = fields.Integer()
    held = fields.Integer(metadata={"description": "Conversations under a legal hold."})
    last_active_at = fields.AwareDateTime(allow_none=True)


class PersonQuery(PageQuery):
    after = Cursor(USERS)
    email = fields.String(load_default=None, validate=validate.Length(1, 254))
    role = fields.String(load_default=None, validate=_ROLE)
    status = fields.String(load_default=None, validate=_STATUS)


class PersonCreation(RegisterSchema):
    EXAMPLES: ClassVar[Examples] = [
        {"email": "grace@example.org", "password": "correct horse battery", "name": "Grace", "role": "operator"}
    ]

    role = fields.String(load_default=UserRole.USER.value, validate=_ROLE)


class RoleSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"role": "operator"}]

    role = fields.String(required=True, validate=_ROLE)


class QuotaChoiceSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"tokens_per_day": 100_000}]

    tokens_per_day = WholeNumber(required=True, allow_none=True, validate=validate.Range(1, 2**31 - 1))


class ErasureSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"reason": "asked for it on 2026-11-20"}]

    reason = PlainText(
        longest=500,
        required=True,
        validate=validate.Length(min=3),
        metadata={"description": "For the receipt; at least 3 characters."},
    )


class ReadingSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"reason": "request of 2026-11-20 under article 15"}]

    reason = PlainText(
        longest=500,
        required=True,
        validate=validate.Length(min=SHORTEST_REASON),
        metadata={"description": f"For the audit; at least {SHORTEST_REASON} characters."},
    )


class AskedErasureSchema(Schema):
    message_id = fields.UUID(metadata={"description": "Of the message in the queue; the history's runs tell it, too."})
    account_id = fields.UUID()
    rows = fields.Dict(keys=fields.String(), values=fields.Integer(), metadata={"description": "What is there now."})


class KeysSchema(Schema):
    items = fields.List(fields.Nested(schema_of(Key)))


class ReceiptQuery(PageQuery):
    after = Cursor(RECEIPTS)


PersonPage = page_of(PersonSchema)
ReceiptPage = page_of(schema_of(Receipt))
