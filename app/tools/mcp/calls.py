"""The client of a registered server, and the call of one of its tools."""

from collections.abc import Mapping
from typing import Any, Final

from app.outbound.addresses import AddressPolicy
from app.outbound.timeouts import Timeouts
from app.services.mcp_servers import McpServer
from app.tools.mcp.client import CallLimits, McpClient
from app.tools.mcp.definitions import ToolDefinition
from app.tools.mcp.errors import McpError
from app.tools.mcp.requests import header_value
from app.tools.mcp.results import as_data, tool_result
from app.tools.tool import ToolContext, ToolError, ToolResult

_CALL_KEY: Final = "parley/call-key"  # in `_meta`: the same for a repeated call
_PARAMETER: Final = "Mcp-Param-"


def new_client(server: McpServer, policy: AddressPolicy, timeouts: Timeouts | None = None) -> McpClient | None:
    """Return a client of `server`, for a single test if `timeouts` are given.

    None if its headers cannot be decrypted.
    """
    if server.headers is None:
        return None
    return McpClient(
        server.name,
        server.url,
        server.headers,
        timeouts or server.timeouts,
        policy,
        server.protocol_version,
        is_test=timeouts is not None,
    )


def call_tool(
    server: str,
    client: McpClient | None,
    definition: ToolDefinition,
    context: ToolContext,
    arguments: Mapping[str, Any],
) -> ToolResult:
    """Call a tool for the user of `context`. Raises `ToolError`."""
    if client is None:
        raise ToolError(f"The server {server} cannot be called: its stored headers cannot be decrypted.")
    params = {"name": definition.name, "arguments": arguments, "_meta": {_CALL_KEY: context.call_key}}
    limits = CallLimits(context.until, context.cancel_token)
    try:
        result, _ = client.send(
            "tools/call", params, limits, user=str(context.user_id), headers=_headers(definition, arguments)
        )
    except McpError as error:
        raise ToolError(_sentences(server, definition.name, error), uncertain=error.uncertain) from None
    return tool_result(
        result,
        tool=definition.name,
        server=server,
        output_schema=definition.output_schema,
        redacted=client.redacted,
    )


def _sentences(server: str, tool: str, error: McpError) -> str:
    text = f"The server {server} {error.message}."
    if error.uncertain:
        text += " Whether the call had an effect is unknown."
    return f"{text} {as_data(error.reason, tool=tool, server=server)}" if error.reason and error.alive else text


def _headers(definition: ToolDefinition, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that repeat arguments, for servers that route by them."""
    headers = {}
    for path, header in definition.headers:
        value: Any = arguments
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, bool):
            value = "true" if value else "false"
        if isinstance(value, str | int):
            headers[_PARAMETER + header] = header_value(str(value))
    return headers
