"""What operators ask for of the backups."""

from typing import Any, ClassVar

from marshmallow import ValidationError, validates_schema

from app.api.schemas.base import Examples, Flag, PlainText, Schema

_EXAMPLE = "parley-84658ecf-20261122T233728Z-e097f062"


class DrillSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"name": _EXAMPLE}]

    name = PlainText(
        longest=255, load_default=None, allow_none=True, metadata={"description": "Of the backup; null: the newest."}
    )


class VerifyingSchema(DrillSchema):
    EXAMPLES: ClassVar[Examples] = [{"name": _EXAMPLE}, {"everything": True}]

    everything = Flag(load_default=False, metadata={"description": "All backups in the store."})

    @validates_schema
    def _one_of_both(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("name") and data.get("everything"):
            raise ValidationError("Name one backup or ask for all, not both.", "name")


class PruningSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"dry_run": True}]

    dry_run = Flag(load_default=False, metadata={"description": "Only say what would go, and why."})
