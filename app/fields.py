"""Base class and fields of schemas: of requests, and of the arguments of tools. Unknown fields are refused."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import marshmallow as ma
from marshmallow import fields, validate

from app.text import is_blank

# Matches a character that is neither white space nor invisible, for the API's description. `app.text.is_blank` decides;
# it also has invisible characters outside the basic plane, which not every dialect of patterns can name.
VISIBLE = (
    r"[^\s\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb]"
)

Examples = Sequence[Mapping[str, Any]]

MAX_FIELDS = 100  # of an object with a schema; none has as many


class Schema(ma.Schema):
    EXAMPLES: ClassVar[Examples] = ()  # for the API's description

    class Meta:
        unknown = ma.RAISE

    def load(self, data: Any, **options: Any) -> Any:
        """Deserialize and validate one object. Raises `ValidationError`."""
        if isinstance(data, Mapping) and len(data) > MAX_FIELDS:
            raise ma.ValidationError(f"Has more than {MAX_FIELDS} fields.")
        return super().load(data, **options)


class PlainText(fields.String):
    """Text of at most `max_length` characters; unless `blank`, one of them is visible and not white space."""

    def __init__(self, *, max_length: int, blank: bool = False, **options: Any) -> None:
        # The pattern is for the API's description; `_deserialize` has the message.
        metadata = {**({} if blank else {"pattern": VISIBLE}), **options.pop("metadata", {})}
        super().__init__(metadata=metadata, **options)
        self.validators = [validate.Length(min=0 if blank else 1, max=max_length), *self.validators]
        self._blank = blank

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        if not self._blank and is_blank(text):
            raise ma.ValidationError("May not be blank.")
        return text


class WholeNumber(fields.Integer):
    """An integer as in JSON, where 5.0 is one; marshmallow accepts "5" too or, if strict, refuses 5.0."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> int:
        if isinstance(value, str) or (isinstance(value, float) and not value.is_integer()):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Number(fields.Float):
    """A number as in JSON; marshmallow accepts "0.5" too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> float:
        if isinstance(value, str):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Flag(fields.Boolean):
    """A JSON boolean; marshmallow accepts "yes", "off" and 1 too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value
