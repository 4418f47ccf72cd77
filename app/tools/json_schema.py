"""The JSON Schema of a tool's arguments, made from the marshmallow schema that validates them.

Providers differ in the keywords they accept: some refuse a list of types, `format` or `pattern`, and a model needs none
of them, because the tool validates its arguments again. So only keywords that all of them accept are kept. An argument
that may be null has its other type only: a model omits it instead.
"""

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow.openapi import OpenAPIConverter

from app.fields import Schema

_KEYWORDS = ("type", "description", "enum", "minimum", "maximum", "minLength", "maxLength")


def input_schema(schema: type[Schema]) -> dict[str, Any]:
    """Return the JSON Schema of `schema`: an object that has no other properties."""
    spec = APISpec("tools", "1", "3.1.0")
    converter = OpenAPIConverter("3.1.0", lambda _: None, spec)
    return _object(converter.schema2jsonschema(schema()))  # type: ignore[no-untyped-call]


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
