"""The list of tools of an MCP server, with the time for which the server says that it holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from app.tools.mcp.client import CallLimits, McpClient
from app.tools.mcp.definitions import MAX_TOOLS, ToolDefinition, clean_definitions
from app.tools.mcp.errors import McpError

MAX_PAGES: Final = 20
DEFAULT_TTL: Final = 300  # seconds, for servers that name none
MIN_TTL: Final = 60
MAX_TTL: Final = 86_400


@dataclass(frozen=True, slots=True)
class Listing:
    """The usable tools, and the reasons why others are left out, by name."""

    tools: Sequence[ToolDefinition]
    left_out: dict[str, str] = field(default_factory=dict)
    ttl_seconds: int = DEFAULT_TTL
    version: str = ""


def list_tools(client: McpClient, total_seconds: float) -> Listing:
    """Return all tools of a server, page by page, within `total_seconds`. Raises `McpError`."""
    limits = CallLimits(monotonic() + total_seconds)
    listed: list[Any] = []
    cursor: str | None = None
    cursors: set[str] = set()
    ttls: list[int] = []
    for _ in range(MAX_PAGES):
        result, version = client.send("tools/list", {} if cursor is None else {"cursor": cursor}, limits)
        tools, cursor = result.get("tools"), result.get("nextCursor")
        if not isinstance(tools, list):
            raise McpError("sent a list of tools that is not a list")
        listed += tools
        ttls.append(_ttl(result.get("ttlMs")))
        if not isinstance(cursor, str) or cursor in cursors or len(listed) > MAX_TOOLS:
            break
        cursors.add(cursor)
    usable, left_out = clean_definitions(listed)
    return Listing(usable, left_out, min(ttls), version)


def _ttl(milliseconds: Any) -> int:
    """Return a server's time to live in whole seconds, within our bounds."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float) or not math.isfinite(milliseconds):
        return DEFAULT_TTL
    return int(min(max(milliseconds / 1000, MIN_TTL), MAX_TTL))
