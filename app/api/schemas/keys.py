from typing import Any, ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, PlainText, Schema, WholeNumber
from app.models import KeyScope
from app.services.api_keys import NewKey

KEYS = Pages("keys.1", lambda item: (item.id,), IDENTIFIER)

LONGEST_LIFE = 3650  # days

_SCOPES = (
    "`chat`: chat, and follow its turns; `read`: read everything else; `write`: change it; `admin`: the operators'"
    " routes, for admins only. None of them opens the account, its password or its keys."
)


class KeyCreation(Schema):
    EXAMPLES: ClassVar[Examples] = [{"name": "nightly report", "scopes": ["chat", "read"], "expires_in_days": 90}]

    name = PlainText(longest=100, required=True)
    scopes = fields.List(
        fields.Enum(KeyScope, by_value=True),
        required=True,
        validate=validate.Length(1, len(KeyScope)),
        metadata={"description": _SCOPES},
    )
    expires_in_days = WholeNumber(
        load_default=None,
        allow_none=True,
        validate=validate.Range(1, LONGEST_LIFE),
        metadata={"description": "Left out: until it is revoked."},
    )


class KeySchema(Schema):
    id = fields.UUID()
    name = fields.String()
    prefix = fields.String(metadata={"description": "How the key begins."})
    scopes = fields.List(fields.String(validate=validate.OneOf(list(KeyScope))))
    last_used_at = fields.AwareDateTime(
        allow_none=True, metadata={"description": "Behind by up to two minutes; null: never used."}
    )
    expires_at = fields.AwareDateTime(allow_none=True)
    revoked_at = fields.AwareDateTime(allow_none=True)
    created_at = fields.AwareDateTime()


class NewKeySchema(KeySchema):
    key = fields.String(metadata={"description": "The key itself. Keep it: it is not shown again."})

    def get_attribute(self, obj: NewKey, attr: str, default: Any) -> Any:
        return obj.secret if attr == "key" else super().get_attribute(obj.row, attr, default)


class KeyQuery(PageQuery):
    after = Cursor(KEYS)


KeyPage = page_of(KeySchema)
