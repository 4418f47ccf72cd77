"""Request bodies for backups."""

from typing import Any, ClassVar

from marshmallow import ValidationError, validates_schema

from app.api.schemas.base import Examples, Flag, PlainText, Schema

_EXAMPLE = "parley-84658ecf-20261122T233728Z-e097f062"


class DrillSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"name": _EXAMPLE}]

    name = PlainText(
        max_length=255,
        load_default=None,
        allow_none=True,
        metadata={"description": "Name of the backup; null for the newest."},
    )


class VerificationSchema(DrillSchema):
    EXAMPLES: ClassVar[Examples] = [{"name": _EXAMPLE}, {"everything": True}]

    everything = Flag(load_default=False, metadata={"description": "Verify all backups of the store."})
    all_files = Flag(
        load_default=False, metadata={"description": "Read all contents of files, not only a random sample."}
    )

    @validates_schema
    def _check_one_of(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("name") and data.get("everything"):
            raise ValidationError("Pass either a name or `everything`, not both.", "name")


class PruneSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"dry_run": True}]

    dry_run = Flag(
        load_default=False, metadata={"description": "Report which backups would be deleted, without deleting."}
    )
