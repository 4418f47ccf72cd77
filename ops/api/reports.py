"""The schema of a report, from the dataclass that it is: what is told is declared there, once."""

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

_PLAIN: dict[Any, type[fields.Field[Any]]] = {
    str: fields.String,
    int: fields.Integer,
    float: fields.Float,
    bool: fields.Boolean,
    UUID: fields.UUID,
    datetime: fields.AwareDateTime,
    Any: fields.Raw,
}


_made: dict[type[Any], type[Schema]] = {}


def schema_of(report: type[Any]) -> type[Schema]:
    """The schema of a dataclass; spans of time are told in seconds.

    Raises TypeError for a type that JSON lacks, and for a second report of a name that is taken: the API's document
    would describe one of them by the other.
    """
    if report in _made:
        return _made[report]
    name = f"{report.__name__.removesuffix('Report')}ReportSchema"
    if taken := next((other for other, made in _made.items() if made.__name__ == name), None):
        raise TypeError(f"{report} and {taken} are one name in the API's document: call one of them otherwise")
    hints = typing.get_type_hints(report)
    declared = {field.name: _field(hints[field.name]) for field in dataclasses.fields(report)}
    made = typing.cast(type[Schema], Schema.from_dict(declared, name=name))
    made.__doc__ = report.__doc__
    return _made.setdefault(report, made)


def _field(hint: Any, *, null: bool = False) -> fields.Field[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        [some] = [each for each in arguments if each is not types.NoneType]
        return _field(some, null=True)
    options: dict[str, Any] = {"allow_none": True} if null else {}
    if hint in _PLAIN:
        return _PLAIN[hint](**options)
    if hint is timedelta:
        return fields.TimeDelta(precision="seconds", **options)
    if dataclasses.is_dataclass(hint):
        return fields.Nested(schema_of(typing.cast(type[Any], hint)), **options)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return fields.String(validate=validate.OneOf([each.value for each in hint]), **options)
    if origin in (list, tuple, Sequence):
        return fields.List(_field(arguments[0]), **options)
    if origin in (dict, Mapping):
        return fields.Dict(keys=fields.String(), values=_field(arguments[1]), **options)
    raise TypeError(f"{hint} has no place in a report")
