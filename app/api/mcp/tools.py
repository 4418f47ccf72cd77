"""Tools over MCP: their descriptions and calls."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from mcp_types import CallToolResult, TextContent, ToolAnnotations
from mcp_types import Tool as ToolDescription
from mcp_types.jsonrpc import INVALID_PARAMS

from app.api.access import caller, require_scope
from app.api.idempotency import sent_key
from app.api.mcp.errors import McpError
from app.api.mcp.offer import current_offer
from app.container import services
from app.encoding import encode_json
from app.enums import KeyScope
from app.ids import new_id
from app.outbound.cancellation import CancelToken
from app.tools.search_conversations import SEARCH_CONVERSATIONS
from app.tools.tool import BUILTIN, Tool, ToolContext

_SHOWN = 100  # characters of a client's value in an error


def own_tools(user_id: UUID) -> Sequence[Tool]:
    """Return Parley's own tools. Those of other MCP servers are for chats only: a client connects to them itself."""
    builtin = [tool for tool in services().tools.tools_for(user_id) if tool.source == BUILTIN]
    return *builtin, SEARCH_CONVERSATIONS


def describe(tool: Tool) -> ToolDescription:
    """Return a tool as `tools/list` has it."""
    return ToolDescription(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=dict(tool.input_schema),
        output_schema=None if tool.output_schema is None else dict(tool.output_schema),
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.read_only,
            destructive_hint=tool.destructive,
            idempotent_hint=tool.repeatable and not tool.keyed,
            open_world_hint=False,
        ),
    )


def call(name: str, arguments: Mapping[str, Any], cancel_token: CancelToken) -> CallToolResult:
    """Call a tool as the caller, and return its result; a failed call is a result too. `cancel_token` ends the call.

    Raises `McpError` for an unknown tool, and `PermissionDenied` if the caller is an API key without the scope.
    """
    user_id = caller().user_id
    tool = next((tool for tool in current_offer().tools(user_id) if tool.name == name), None)
    if tool is None:
        raise McpError(INVALID_PARAMS, f"There is no tool `{name[:_SHOWN]}`: `tools/list` names them.")
    if tool.scope is KeyScope.WRITE:  # the route itself requires `read`
        require_scope(KeyScope.WRITE)
    context = ToolContext(user_id, call_key=_call_key(name, arguments), cancel_token=cancel_token)
    result = services().tools.call(tool, context, arguments)
    return CallToolResult(
        content=[TextContent(text=result.content)],
        # Revisions before 2026-07-28 allow an object only.
        structured_content=result.data if isinstance(result.data, dict) else None,
        is_error=result.is_error,
    )


def _call_key(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a key of this call. With an Idempotency-Key, a repeated call with the same arguments has the same one."""
    sent = sent_key()
    if sent is None:
        return new_id().hex
    return hashlib.sha256(encode_json([sent, name, arguments])).hexdigest()
