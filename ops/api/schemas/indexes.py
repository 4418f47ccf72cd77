"""Request body for applying an index plan."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, Flag, Schema, WholeNumber


class ApplyIndexPlanSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"run_id": "01890a5d-ac96-774b-bcce-b302099a8057", "max_minutes": 30}]

    run_id = fields.UUID(required=True, metadata={"description": "Id of the run that made the plan."})
    max_minutes = WholeNumber(
        load_default=30,
        validate=validate.Range(1, 50),
        metadata={"description": "Time limit; steps that do not fit are held back."},
    )
    now = Flag(load_default=False, metadata={"description": "Ignore INDEX_APPLY_HOURS."})
    assume_disk = WholeNumber(
        load_default=None,
        allow_none=True,
        validate=validate.Range(0, 2**50),
        metadata={"description": "Free disk space of the database host in bytes, if the server does not report it."},
    )
