"""Base class and fields of all schemas. Unknown fields are refused; times are ISO 8601 with offset.

Reporting a problem takes longer than reading the value that causes it. So no object is examined that has more fields
than any schema, and a list is examined only until it has `MAX_PROBLEMS`.
"""

from typing import Any

import marshmallow as ma
from marshmallow import fields

from app.api.json_values import SLICE_SECONDS
from app.fields import MAX_FIELDS, VISIBLE, Examples, Flag, Number, PlainText, Schema, WholeNumber
from app.outbound.yielding import Yielder

__all__ = ["MAX_FIELDS", "VISIBLE", "Examples", "Flag", "NestedList", "Number", "PlainText", "Schema", "WholeNumber"]

MAX_PROBLEMS = 50  # that are reported for one request


class NestedList(fields.List[Any]):
    """A list of objects with a schema, read up to `MAX_PROBLEMS`. Other requests run after each slice of time."""

    def __init__(self, schema: type[Schema], **options: Any) -> None:
        super().__init__(fields.Nested(schema), **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        yielder, loaded, problems = Yielder(SLICE_SECONDS), [], {}
        count = 0
        for index, item in enumerate(value):
            try:
                loaded.append(self.inner.deserialize(item, **options))
            except ma.ValidationError as error:
                problems[index] = error.messages
                count += len(error.messages)
                if count >= MAX_PROBLEMS:
                    break
            yielder.step()
        if problems:
            raise ma.ValidationError(problems)
        return loaded
