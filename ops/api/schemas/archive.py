"""The archive's runs and legal holds, as operators see them."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, PlainText, Schema
from app.models.legal_hold import HOLD_REASON_LIMIT
from ops.api.reports import schema_of
from ops.archive.holds import Hold
from ops.archive.reports import ArchiveRunReport

HOLDS = Pages("legal_holds.1", lambda item: (item.user_id, item.id), IDENTIFIER, IDENTIFIER)


class ArchiveRunsSchema(Schema):
    items = fields.List(fields.Nested(schema_of(ArchiveRunReport)))


class HoldQuery(PageQuery):
    after = Cursor(HOLDS)
    account_id = fields.UUID(load_default=None, metadata={"description": "Only what this account has."})


class HoldCreation(Schema):
    """Either a conversation or an account is named."""

    EXAMPLES: ClassVar[Examples] = [
        {"conversation_id": "01890a5d-ac96-774b-bcce-b302099a8057", "reason": "court order 17/2026"}
    ]

    conversation_id = fields.UUID(load_default=None, allow_none=True)
    account_id = fields.UUID(load_default=None, allow_none=True, metadata={"description": "All that it has now."})
    reason = PlainText(longest=HOLD_REASON_LIMIT, required=True)

    @validates_schema
    def _one_of_both(self, data: dict[str, Any], **_: Any) -> None:
        if (data.get("conversation_id") is None) == (data.get("account_id") is None):
            raise ValidationError("Name either a conversation or an account.", "conversation_id")


HoldPage = page_of(schema_of(Hold))
