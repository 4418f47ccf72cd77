"""The tools and resources that the conformance suite calls, beside Parley's own."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from mcp_types import BlobResourceContents, Resource, ResourceTemplate, TextResourceContents

from app.api.mcp.offer import Contents, Offer, ResourceSource
from app.tools.tool import Tool, ToolContext, ToolError, ToolResult

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

# All keywords whose preservation the suite checks.
_SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def _fail(_context: ToolContext, _arguments: Mapping[str, Any]) -> ToolResult:
    raise ToolError("This tool intentionally returns an error for testing")


def _tool(name: str, text: str, schema: Mapping[str, Any] = _NO_ARGUMENTS, run: Any = None) -> Tool:
    return Tool(
        name=name,
        title=name,
        description=text,
        input_schema=schema,
        run=run or (lambda _context, _arguments: ToolResult(text)),
        repeatable=True,
        read_only=True,
        destructive=False,
    )


_TOOLS = (
    _tool("test_simple_text", "This is a simple text response for testing."),
    _tool("test_error_handling", "Always fails.", run=_fail),
    _tool("test_logging_tool", "Logs nothing."),
    _tool("test_streaming_elicitation", "Asks for nothing."),
    _tool("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", _SCHEMA_2020_12),
)


def _resource(uri: str, media_type: str) -> Resource:
    return Resource(uri=uri, name=uri.rpartition("/")[2], description="A resource of the suite.", mime_type=media_type)


class _Resources:
    """The suite's resources on the first page, and those of `own`."""

    def __init__(self, own: ResourceSource) -> None:
        self._own = own

    def page(self, user_id: UUID, cursor: str | None) -> tuple[Sequence[Resource], str | None]:
        resources, next_cursor = self._own.page(user_id, cursor)
        if cursor is not None:
            return resources, next_cursor
        return [
            _resource("test://static-text", "text/plain"),
            _resource("test://static-binary", "image/png"),
            *resources,
        ], next_cursor

    def templates(self) -> Sequence[ResourceTemplate]:
        template = ResourceTemplate(
            uri_template="test://template/{id}/data",
            name="template",
            description="Of the suite.",
            mime_type="text/plain",
        )
        return [template, *self._own.templates()]

    def read(self, user_id: UUID, uri: str) -> Sequence[Contents]:
        if uri == "test://static-text":
            text = "This is the content of the static text resource."
            return [TextResourceContents(uri=uri, mime_type="text/plain", text=text)]
        if uri == "test://static-binary":
            assert base64.b64decode(_PIXEL)
            return [BlobResourceContents(uri=uri, mime_type="image/png", blob=_PIXEL)]
        if uri.startswith("test://template/"):
            name = uri.split("/")[3]
            data = {"id": name, "templateTest": True, "data": f"Data for ID: {name}"}
            return [TextResourceContents(uri=uri, mime_type="application/json", text=orjson.dumps(data).decode())]
        return self._own.read(user_id, uri)


def with_fixtures(own: Offer) -> Offer:
    """Return the offer with what the suite calls."""
    return Offer(lambda user_id: (*_TOOLS, *own.tools(user_id)), _Resources(own.resources))
