"""What all schemas share. Unknown fields are refused; times are ISO 8601 with their offset."""

from typing import Any

import marshmallow as ma
from marshmallow import fields, validate


class Schema(ma.Schema):
    class Meta:
        unknown = ma.RAISE


class PlainText(fields.String):
    """Text from a person: `longest` characters at most, and, unless `blank`, something other than white space."""

    def __init__(self, *, longest: int, blank: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.validators = [validate.Length(min=0 if blank else 1, max=longest), *self.validators]
        self._blank = blank

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        if not self._blank and not text.strip():
            raise ma.ValidationError("May not be blank.")
        return text


class Flag(fields.Boolean):
    """true or false and nothing else: marshmallow would take "yes", "off" and 1 as well."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value
