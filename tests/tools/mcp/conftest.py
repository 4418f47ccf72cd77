"""Fixtures of the MCP client: a scripted server, a client, and a source with registered servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from app.config import Tools
from app.outbound.addresses import AddressPolicy
from app.outbound.timeouts import Timeouts
from app.services.mcp_servers import AllowedTool, McpServer
from app.tools.mcp.client import McpClient
from app.tools.mcp.definitions import clean_definitions
from app.tools.mcp.source import McpTools
from app.tools.registry import ToolRegistry
from app.tools.tool import Tool, ToolContext
from tests.fakes.mcp import ScriptedMcp
from tests.fakes.upstream import Upstream

POLICY = AddressPolicy(["127.0.0.1"], setting="MCP_PRIVATE_HOSTS")
TIMEOUTS = Timeouts(connect=5, first_token=10, idle=10, total=20)
SECRET = "s3cr3t-of-the-mcp-server-7d1f"

Serve = Callable[..., Upstream]


def url(upstream: Upstream) -> str:
    return f"http://127.0.0.1:{upstream.port}/mcp"


def client(upstream: Upstream, **more: Any) -> McpClient:
    return McpClient("files", url(upstream), {}, **{"timeouts": TIMEOUTS, "policy": POLICY, **more})


def registered(upstream: Upstream | None, listed: list[dict[str, Any]], **more: Any) -> McpServer:
    """Return the server as an operator registered it, with all its tools allowed."""
    definitions = clean_definitions(listed)[0]
    fields: dict[str, Any] = {
        "name": "files",
        "url": url(upstream) if upstream else "",
        "headers": {"Authorization": f"Bearer {SECRET}"},
        "timeouts": TIMEOUTS,
        "tools": [definition.stored() for definition in definitions],
        "allowed": {definition.name: AllowedTool(definition.hash) for definition in definitions},
        "revision": uuid4(),
    }
    return McpServer(**{**fields, **more})


def registry(*servers: McpServer, **settings: Any) -> ToolRegistry:
    return ToolRegistry([McpTools(lambda: servers, POLICY)], Tools(**settings))


def only_tool(tools: ToolRegistry) -> Tool:
    (tool,) = tools.tools_for(uuid4())
    return tool


def context(**more: Any) -> ToolContext:
    return ToolContext(**{"user_id": uuid4(), "call_key": "key-1", **more})


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves a `ScriptedMcp` until the end of the test."""
    with ExitStack() as stack:

        def start(server: ScriptedMcp, **more: Any) -> Upstream:
            return stack.enter_context(Upstream(server.script, **more))

        yield start
