"""Schemas of archival runs and legal holds."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Schema
from ops.api.reports import schema_of
from ops.api.schemas.reasons import reason_field
from ops.archive.holds import Hold
from ops.archive.reports import ArchiveRunReport

HOLDS = Pages("legal_holds.1", lambda item: (item.user_id, item.id), IDENTIFIER, IDENTIFIER)


class ArchiveRunsSchema(Schema):
    items = fields.List(fields.Nested(schema_of(ArchiveRunReport)), metadata={"description": "The runs, newest first."})


class HoldQuery(PageQuery):
    after = Cursor(HOLDS)
    user_id = fields.UUID(load_default=None, metadata={"description": "Only holds of this user."})


class HoldCreation(Schema):
    """Exactly one of `conversation_id` and `user_id` is required."""

    EXAMPLES: ClassVar[Examples] = [
        {"conversation_id": "01890a5d-ac96-774b-bcce-b302099a8057", "reason": "court order 17/2026"}
    ]

    conversation_id = fields.UUID(
        load_default=None, allow_none=True, metadata={"description": "The conversation to hold."}
    )
    user_id = fields.UUID(
        load_default=None, allow_none=True, metadata={"description": "Hold all conversations that the user has now."}
    )
    reason = reason_field("Why it is held")

    @validates_schema
    def _check_one_of(self, data: dict[str, Any], **_: Any) -> None:
        if (data.get("conversation_id") is None) == (data.get("user_id") is None):
            raise ValidationError("Pass exactly one of `conversation_id` and `user_id`.", "conversation_id")


HoldPage = page_of(schema_of(Hold))
