"""Schemas of requests about MCP servers; those of the responses come from the reports."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, Flag, Number, PlainText, Schema
from app.bounds import MAX_SECONDS, MCP_SERVER_NAME_LIMIT, MCP_URL_LIMIT
from app.tools.mcp.definitions import MAX_NAME, MAX_TOOLS
from app.tools.mcp.policy import MAX_HEADER_VALUE, MAX_HEADERS
from ops.mcp.servers import CALL_SECONDS, CONNECT_SECONDS, MIN_SECONDS, TOTAL_SECONDS


def _seconds(default: float, description: str) -> Number:
    return Number(
        load_default=default,
        validate=validate.Range(min=MIN_SECONDS, max=MAX_SECONDS),
        metadata={"description": description},
    )


class McpServerAddSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [
        {
            "name": "weather",
            "url": "https://weather.example.com/mcp",
            "headers": {"Authorization": "Bearer ..."},
            "enabled": False,
        }
    ]

    name = PlainText(
        max_length=MCP_SERVER_NAME_LIMIT,
        required=True,
        metadata={"description": "Name: lower-case letters, digits and hyphens; the names of its tools begin with it."},
    )
    url = PlainText(
        max_length=MCP_URL_LIMIT,
        required=True,
        metadata={"description": "URL of its endpoint, with https; hosts of MCP_PRIVATE_HOSTS may have http."},
    )
    headers = fields.Dict(
        keys=PlainText(max_length=100),
        values=PlainText(max_length=MAX_HEADER_VALUE),
        load_default=dict,
        validate=validate.Length(max=MAX_HEADERS),
        metadata={"description": "Headers to send, such as Authorization. They are encrypted and never returned."},
    )
    enabled = Flag(load_default=True, metadata={"description": "Whether turns may call its tools, once allowed."})
    needs_approval = Flag(load_default=False, metadata={"description": "Whether each call needs the user's approval."})
    connect_seconds = _seconds(CONNECT_SECONDS, "Seconds to connect.")
    call_seconds = _seconds(CALL_SECONDS, "Seconds for the response to one request.")
    total_seconds = _seconds(TOTAL_SECONDS, "Seconds for a call with its handshake.")


class McpToolsSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"tools": ["forecast"]}]

    tools = fields.List(
        PlainText(max_length=MAX_NAME),
        required=True,
        validate=validate.Length(min=1, max=MAX_TOOLS),
        metadata={"description": "Names of tools, as the server lists them."},
    )


class McpAllowSchema(McpToolsSchema):
    EXAMPLES: ClassVar[Examples] = [{"tools": ["forecast"], "needs_approval": True}]

    needs_approval = Flag(load_default=False, metadata={"description": "Whether each call needs the user's approval."})
