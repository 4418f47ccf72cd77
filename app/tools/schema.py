"""Validation of a call's arguments and of its structured result against the JSON Schemas of its tool.

Models often omit a field, invent one or send a number as text. This finds such errors in bounded time. A schema may
come from another server, so keywords that can take exponential time or fetch a document (`pattern`, `$ref`, `anyOf`,
`format`, `uniqueItems` and so on) are not evaluated: the tool itself has the last word.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

MAX_ERRORS = 10
_MAX_VALUES = 10_000  # that are compared; the tool itself checks the rest
_MAX_DEPTH = 32

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def argument_errors(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments, one sentence for each error; at most MAX_ERRORS."""
    return list(islice(_Validation("The arguments").errors(schema, arguments, "", 0), MAX_ERRORS))


def result_errors(schema: Mapping[str, Any], result: Any) -> list[str]:
    """Return what is wrong with a structured result, as `argument_errors` does; null counts as a value here."""
    return list(islice(_Validation("The result", null_is_absent=False).errors(schema, result, "", 0), MAX_ERRORS))


class _Validation:
    def __init__(self, whole: str, *, null_is_absent: bool = True) -> None:
        self._left, self._whole, self._null_is_absent = _MAX_VALUES, whole, null_is_absent

    def errors(self, schema: Any, value: Any, path: str, depth: int) -> Iterator[str]:
        self._left -= 1
        if not isinstance(schema, Mapping) or self._left < 0 or depth > _MAX_DEPTH:
            return
        name = path or self._whole
        types = schema.get("type")
        types = [types] if isinstance(types, str) else types
        names = [item for item in types if isinstance(item, str)] if isinstance(types, list) else []
        if names and not any(_has_type(value, item) for item in names):
            yield f"{name}: must be of type {' or '.join(names)}."
            return
        choices = schema.get("enum")
        if isinstance(choices, list) and value not in choices[:_MAX_VALUES]:
            yield f"{name}: must be one of {', '.join(map(repr, choices[:20]))}."
        if isinstance(value, dict):
            yield from self._object_errors(schema, value, path, depth)
        elif isinstance(value, list):
            yield from _bound_errors(name, len(value), schema, "minItems", "maxItems", "items")
            for index, item in enumerate(value if isinstance(schema.get("items"), Mapping) else ()):
                if self._left < 0:
                    return
                yield from self.errors(schema["items"], item, f"{path}[{index}]", depth + 1)
        elif isinstance(value, str):
            yield from _bound_errors(name, len(value), schema, "minLength", "maxLength", "characters")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield from _bound_errors(name, value, schema, "minimum", "maximum", "")

    def _object_errors(self, schema: Mapping[str, Any], value: dict[str, Any], path: str, depth: int) -> Iterator[str]:
        prefix = f"{path}." if path else ""
        required, properties = schema.get("required"), schema.get("properties")
        for key in required if isinstance(required, list) else ():
            if isinstance(key, str) and key not in value:
                yield f"{prefix}{key}: missing."
        known: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
        closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
        for key, item in value.items():
            if self._left < 0:
                return
            is_required = isinstance(required, list) and key in required
            if item is None and key in known and self._null_is_absent and not is_required:
                continue  # models send null for an argument that they do not set
            if key in known:
                yield from self.errors(known[key], item, f"{prefix}{key}", depth + 1)
            elif closed:
                yield f"{prefix}{key[:100]}: unknown; the schema has {_listed(list(known))}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:50]) or "none"


def _has_type(value: Any, name: str) -> bool:
    expected = _TYPES.get(name)
    if expected is None:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, expected)


def _bound_errors(
    name: str, size: float, schema: Mapping[str, Any], lower: str, upper: str, unit: str
) -> Iterator[str]:
    least, most = schema.get(lower), schema.get(upper)
    unit = f" {unit}" if unit else ""
    if isinstance(least, int | float) and size < least:
        yield f"{name}: must be at least {least}{unit}, not {size}."
    if isinstance(most, int | float) and size > most:
        yield f"{name}: must be at most {most}{unit}, not {size}."
