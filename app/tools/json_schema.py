"""The JSON Schemas of a tool's arguments and results, made from the marshmallow schemas that validate or write them.

Providers differ in the keywords they accept: some refuse a list of types, `format` or `pattern`, and a model needs none
of them, because the tool validates its arguments again. So only keywords that all of them accept are kept. An argument
that may be null has its other type only: a model omits it instead.
"""

from collections.abc import Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow.openapi import OpenAPIConverter

from app.fields import Schema

_KEYWORDS = ("type", "description", "enum", "minimum", "maximum", "minLength", "maxLength")


def input_schema(schema: type[Schema]) -> dict[str, Any]:
    """Return the JSON Schema of arguments that `schema` loads: an object that has no other properties."""
    return _object(_converted(schema))


def output_schema(schema: type[Schema]) -> dict[str, Any]:
    """Return the JSON Schema of what `schema` dumps: an object that has all properties and no others."""
    properties = {
        name: {keyword: field[keyword] for keyword in (*_KEYWORDS, "format") if keyword in field}
        for name, field in _converted(schema)["properties"].items()
    }
    return closed_object(properties)


def closed_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of an object that has all `properties` and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _converted(schema: type[Schema]) -> dict[str, Any]:
    converter = OpenAPIConverter("3.1.0", lambda _: None, APISpec("tools", "1", "3.1.0"))
    converted: dict[str, Any] = converter.schema2jsonschema(schema())  # type: ignore[no-untyped-call]
    return converted


def _object(converted: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _property(field) for name, field in converted["properties"].items()},
        "required": converted.get("required", []),
        "additionalProperties": False,
    }


def _property(field: dict[str, Any]) -> dict[str, Any]:
    kept = {keyword: field[keyword] for keyword in _KEYWORDS if keyword in field}
    if isinstance(kept["type"], list):
        [kept["type"]] = [kind for kind in kept["type"] if kind != "null"]
    if kept["type"] == "object":
        return {**kept, **_object(field)}
    if kept["type"] == "array":
        return {**kept, "items": _property(field["items"])}
    return kept
