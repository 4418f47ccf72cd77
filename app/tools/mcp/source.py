"""The allowed tools of the enabled MCP servers, as a source of tools for turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from app.outbound.addresses import AddressPolicy
from app.services.mcp_servers import McpServer
from app.tools.mcp.definitions import ToolDefinition, definition_hash, from_stored
from app.tools.mcp.names import public_names
from app.tools.tool import Tool

if TYPE_CHECKING:  # imported for the first server: mcp_types takes a quarter of a second
    from app.tools.mcp.client import McpClient


@dataclass(frozen=True, slots=True)
class _Connected:
    """A server with its client and its tools, for one revision of its row."""

    server: McpServer
    client: "McpClient | None"
    tools: tuple[Tool, ...]


class McpTools:
    """The source of one process. `enabled` returns the servers without a wait for the network. Thread-safe."""

    def __init__(self, enabled: Callable[[], Sequence[McpServer]], policy: AddressPolicy) -> None:
        self._enabled, self._policy = enabled, policy
        self._connected: dict[str, _Connected] = {}

    def tools(self, user_id: UUID, project_id: UUID | None) -> Sequence[Tool]:
        """Return the tools that operators allow, in the order of servers and names."""
        servers = self._enabled()
        for name in self._connected.keys() - {server.name for server in servers}:
            self._connected.pop(name, None)
        return [tool for server in servers for tool in self._of(server).tools]

    def _of(self, server: McpServer) -> _Connected:
        known = self._connected.get(server.name)
        if known is None or known.server.revision != server.revision:
            client = _client(server, self._policy, known)
            known = self._connected[server.name] = _Connected(server, client, _tools(server, client))
        return known


def _client(server: McpServer, policy: AddressPolicy, known: _Connected | None) -> "McpClient | None":
    """Return the client that is known, with its connections and circuit, unless its address or secrets changed."""
    from app.tools.mcp.calls import new_client

    if known is not None:
        before = known.server
        if (before.url, before.headers, before.timeouts) == (server.url, server.headers, server.timeouts):
            return known.client
    return new_client(server, policy)


def offered(server: McpServer) -> list[ToolDefinition]:
    """Return the allowed definitions that are as the operator saw them."""
    return [
        from_stored(stored)
        for stored in server.tools
        if (allowed := server.allowed.get(stored["name"])) is not None and allowed.hash == definition_hash(stored)
    ]


def _tools(server: McpServer, client: "McpClient | None") -> tuple[Tool, ...]:
    from app.tools.mcp.calls import call_tool

    definitions = {definition.name: definition for definition in offered(server)}
    return tuple(
        Tool(
            name=public,
            title=definition.title or definition.name,
            description=f"Tool of the external server {server.name}. {definition.description}".strip(),
            input_schema=definition.input_schema,
            run=partial(call_tool, server.name, client, definition),
            repeatable=definition.read_only or definition.idempotent,
            read_only=definition.read_only,
            destructive=definition.destructive,
            needs_approval=server.needs_approval or server.allowed[definition.name].needs_approval,
            source=server.name,
            output_schema=definition.output_schema,
        )
        for name, public in public_names(server.name, definitions).items()
        if (definition := definitions[name])
    )
