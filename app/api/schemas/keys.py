from typing import Any, ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, PlainText, Schema, WholeNumber
from app.enums import KeyScope
from app.services.api_keys import NewKey

KEYS = Pages("keys.1", lambda item: (item.id,), IDENTIFIER)

MAX_LIFETIME_DAYS = 3650

_SCOPES = (
    "`chat`: chat and read its turns; `read`: read all other objects; `write`: change them; `admin`: the admin API, for"
    " admins only. No scope gives access to the account, its password or its keys."
)


class KeyCreation(Schema):
    EXAMPLES: ClassVar[Examples] = [{"name": "nightly report", "scopes": ["chat", "read"], "expires_in_days": 90}]

    name = PlainText(max_length=100, required=True, metadata={"description": "Name of the key, for people."})
    scopes = fields.List(
        fields.Enum(KeyScope, by_value=True),
        required=True,
        validate=validate.Length(1, len(KeyScope)),
        metadata={"description": _SCOPES},
    )
    expires_in_days = WholeNumber(
        load_default=None,
        allow_none=True,
        validate=validate.Range(1, MAX_LIFETIME_DAYS),
        metadata={"description": "Absent: the key does not expire."},
    )


class KeySchema(Schema):
    id = fields.UUID()
    name = fields.String(metadata={"description": "Name of the key."})
    prefix = fields.String(metadata={"description": "First characters of the key."})
    scopes = fields.List(
        fields.String(validate=validate.OneOf(list(KeyScope))), metadata={"description": "What the key may do."}
    )
    last_used_at = fields.AwareDateTime(
        allow_none=True, metadata={"description": "Up to two minutes old; null if never used."}
    )
    expires_at = fields.AwareDateTime(allow_none=True)
    revoked_at = fields.AwareDateTime(allow_none=True)
    created_at = fields.AwareDateTime()


class NewKeySchema(KeySchema):
    key = fields.String(metadata={"description": "The key. Store it: it is not shown again."})

    def get_attribute(self, obj: NewKey, attr: str, default: Any) -> Any:
        return obj.secret if attr == "key" else super().get_attribute(obj.row, attr, default)


class KeyQuery(PageQuery):
    after = Cursor(KEYS)


KeyPage = page_of(KeySchema)
