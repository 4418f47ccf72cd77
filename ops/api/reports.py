"""Marshmallow schemas from report dataclasses, whose fields are annotated with their descriptions."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from marshmallow import fields, validate

from app.api.schemas.base import Schema

_FIELDS: dict[Any, type[fields.Field[Any]]] = {
    str: fields.String,
    int: fields.Integer,
    float: fields.Float,
    bool: fields.Boolean,
    UUID: fields.UUID,
    datetime: fields.AwareDateTime,
    Any: fields.Raw,
}

_schemas: dict[type[Any], type[Schema]] = {}


def schema_of(report: type[Any]) -> type[Schema]:
    """Return the schema of a dataclass; durations are in seconds.

    Raises `TypeError` for a field without a description or a JSON form, and for a second dataclass with the same name:
    the OpenAPI document has one schema per name.
    """
    if report in _schemas:
        return _schemas[report]
    name = f"{report.__name__.removesuffix('Report')}ReportSchema"
    if other := next((other for other, schema in _schemas.items() if schema.__name__ == name), None):
        raise TypeError(f"{report} and {other} have the same schema name {name}: rename one of them")
    hints = typing.get_type_hints(report, include_extras=True)
    fields_by_name = {field.name: _described(hints[field.name]) for field in dataclasses.fields(report)}
    schema = typing.cast(type[Schema], Schema.from_dict(fields_by_name, name=name))
    schema.__doc__ = report.__doc__
    return _schemas.setdefault(report, schema)


def _described(hint: Any) -> fields.Field[Any]:
    """Return the field of `Annotated[type, "description"]`."""
    if typing.get_origin(hint) is not typing.Annotated:
        raise TypeError(f"{hint} has no description: annotate the field as Annotated[type, 'description']")
    inner, description = typing.get_args(hint)
    field = _field(inner)
    field.metadata = {**field.metadata, "description": description}
    return field


def _field(hint: Any, *, null: bool = False) -> fields.Field[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        [inner] = [argument for argument in arguments if argument is not types.NoneType]
        return _field(inner, null=True)
    options: dict[str, Any] = {"allow_none": True} if null else {}
    if hint in _FIELDS:
        return _FIELDS[hint](**options)
    if hint is timedelta:
        return fields.TimeDelta(precision="seconds", **options)
    if dataclasses.is_dataclass(hint):
        return fields.Nested(schema_of(typing.cast(type[Any], hint)), **options)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        options["metadata"] = {"x-enumeration": hint.__name__}
        return fields.String(validate=validate.OneOf([member.value for member in hint]), **options)
    if origin in (list, tuple, Sequence):
        return fields.List(_field(arguments[0]), **options)
    if origin in (dict, Mapping):
        return fields.Dict(keys=fields.String(), values=_field(arguments[1]), **options)
    raise TypeError(f"{hint} has no JSON form")
