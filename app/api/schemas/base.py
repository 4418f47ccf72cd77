"""What all schemas share. Unknown fields are refused; times are ISO 8601 with their offset."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

Examples = Sequence[Mapping[str, Any]]


class Schema(ma.Schema):
    EXAMPLES: ClassVar[Examples] = ()  # for the API's description

    class Meta:
        unknown = ma.RAISE


class PlainText(fields.String):
    """Text from a person: `longest` characters at most, and, unless `blank`, something other than white space."""

    def __init__(self, *, longest: int, blank: bool = False, **options: Any) -> None:
        # For the API's description; what is told to the caller is decided below.
        described = {**({} if blank else {"pattern": r"\S"}), **options.pop("metadata", {})}
        super().__init__(metadata=described, **options)
        self.validators = [validate.Length(min=0 if blank else 1, max=longest), *self.validators]
        self._blank = blank

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        if not self._blank and not text.strip():
            raise ma.ValidationError("May not be blank.")
        return text


class WholeNumber(fields.Integer):
    """A whole number as JSON has it, 5.0 among them; marshmallow would take "5" as well, or else refuse 5.0."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> int:
        if isinstance(value, str) or (isinstance(value, float) and not value.is_integer()):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Number(fields.Float):
    """A number as JSON has it: marshmallow would take "0.5" as well."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> float:
        if isinstance(value, str):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Flag(fields.Boolean):
    """true or false and nothing else: marshmallow would take "yes", "off" and 1 as well."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value
