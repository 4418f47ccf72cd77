"""Definitions of tools as an MCP server lists them: bounded and cleaned before they are stored.

A definition is text of another server that models and operators read. What people cannot see is removed from its
descriptions, and a tool with such characters elsewhere is left out, as is one that is too large.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from app.text import clean_text, without_invisible

MAX_TOOLS: Final = 200  # of one server
MAX_NAME: Final = 128
MAX_TITLE: Final = 200
MAX_DESCRIPTION: Final = 4000
MAX_DEFINITION_BYTES: Final = 32_768
MAX_DEPTH: Final = 32

_TEXTS = ("description", "title")
_HEADER = "x-mcp-header"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HEADER_TYPES = ("string", "integer", "boolean")


class _Unusable(Exception):
    """A definition that is left out; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDefinition:
    """A cleaned definition. `headers` pairs the path of an argument with the header that repeats it."""

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    headers: Sequence[tuple[Sequence[str], str]] = ()
    output_schema: Mapping[str, Any] | None = None

    @property
    def hash(self) -> str:
        """Identify the definition: any change of what a model or an operator reads changes it."""
        return definition_hash(self.stored())

    def stored(self) -> dict[str, Any]:
        """Return the stored form: JSON values, without an output schema if there is none."""
        stored = asdict(self)
        if self.output_schema is None:
            del stored["output_schema"]
        return stored


def definition_hash(definition: Mapping[str, Any]) -> str:
    """Return the hash of a definition as it is stored."""
    return hashlib.sha256(orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)).hexdigest()


def list_hash(definitions: Sequence[Mapping[str, Any]]) -> str:
    """Return the hash of a list of stored definitions."""
    return hashlib.sha256("".join(map(definition_hash, definitions)).encode()).hexdigest()


def clean_definitions(listed: Sequence[Any]) -> tuple[list[ToolDefinition], dict[str, str]]:
    """Return the usable definitions in the order of their names, and why the others are left out, by name."""
    usable: dict[str, ToolDefinition] = {}
    left_out: dict[str, str] = {}
    for item in listed[:MAX_TOOLS]:
        try:
            definition = _clean(item)
            if definition.name in usable:
                raise _Unusable("its name is listed twice")
            usable[definition.name] = definition
        except _Unusable as error:
            left_out[_shown_name(item)] = str(error)
    if len(listed) > MAX_TOOLS:
        left_out["(more)"] = f"only {MAX_TOOLS} tools of a server are used"
    return [usable[name] for name in sorted(usable)], left_out


def from_stored(stored: Mapping[str, Any]) -> ToolDefinition:
    """Return the definition of its stored form."""
    return ToolDefinition(**stored)


def visible(text: str, limit: int) -> str:
    """Return the lines of `text` without invisible characters, cut to `limit` characters."""
    lines = (without_invisible(line.replace("\t", " ")).rstrip() for line in clean_text(text).splitlines())
    return "\n".join(lines).strip()[:limit]


def _clean(item: Any) -> ToolDefinition:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise _Unusable("it has no name")
    name, schema = item["name"], item.get("inputSchema")
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name.strip() != name:
        raise _Unusable(f"its name must have 1 to {MAX_NAME} visible characters")
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise _Unusable("its input schema is not that of an object")
    cleaned, output = _clean_schema(schema, 0, is_map=False), item.get("outputSchema")
    if output is not None and not isinstance(output, dict):
        raise _Unusable("its output schema is no object")
    headers = list(_headers(schema, ()))
    if len({header.lower() for _, header in headers}) < len(headers):
        raise _Unusable("two of its arguments are repeated in the same header")
    annotations = item.get("annotations")
    hints: Mapping[str, Any] = annotations if isinstance(annotations, dict) else {}
    title = item.get("title") or hints.get("title")
    definition = ToolDefinition(
        name=name,
        title=visible(title, MAX_TITLE) if isinstance(title, str) else "",
        description=visible(item["description"], MAX_DESCRIPTION) if isinstance(item.get("description"), str) else "",
        input_schema={**cleaned, "type": "object"},
        read_only=hints.get("readOnlyHint") is True,
        destructive=hints.get("destructiveHint") is not False and hints.get("readOnlyHint") is not True,
        idempotent=hints.get("idempotentHint") is True,
        headers=headers,
        output_schema=None if output is None else _clean_schema(output, 0, is_map=False),
    )
    try:
        size = len(orjson.dumps(definition.stored()))
    except TypeError:  # a number that JSON's readers do not agree on
        raise _Unusable("its schema has a number out of range") from None
    if size > MAX_DEFINITION_BYTES:
        raise _Unusable(f"its definition has more than {MAX_DEFINITION_BYTES} bytes")
    return definition


def _clean_schema(value: Any, depth: int, *, is_map: bool) -> Any:
    """Return a part of a schema with clean descriptions. `is_map`: its keys are names of arguments, not keywords."""
    if depth > MAX_DEPTH:
        raise _Unusable(f"its schema is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if value != without_invisible(clean_text(value)):
            raise _Unusable("its schema has invisible characters")
        return value
    if isinstance(value, list):
        return [_clean_schema(item, depth + 1, is_map=False) for item in value]
    if not isinstance(value, dict):
        return value
    cleaned = {}
    for key, item in value.items():
        _clean_schema(key, depth, is_map=False)
        if key in _TEXTS and not is_map and isinstance(item, str):
            cleaned[key] = visible(item, MAX_DESCRIPTION)
        else:
            cleaned[key] = _clean_schema(item, depth + 1, is_map=key == "properties" and not is_map)
    return cleaned


def _headers(schema: Mapping[str, Any], path: tuple[str, ...]) -> list[tuple[list[str], str]]:
    """Return the arguments that headers repeat. Raises `_Unusable` for an annotation that the protocol forbids."""
    found: list[tuple[list[str], str]] = []
    properties = schema.get("properties")
    for name, item in properties.items() if isinstance(properties, dict) else ():
        if not isinstance(item, dict):
            continue
        if _HEADER in item:
            header = item[_HEADER]
            if not isinstance(header, str) or not _TOKEN.fullmatch(header) or item.get("type") not in _HEADER_TYPES:
                raise _Unusable(f"its argument {name!r} has an annotation {_HEADER} that the protocol forbids")
            found.append(([*path, name], header))
        found += _headers(item, (*path, name))
    return found


def _shown_name(item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return visible(name, MAX_NAME) if isinstance(name, str) and visible(name, MAX_NAME) else "(without a name)"
