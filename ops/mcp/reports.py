"""Reports about MCP servers. No report contains the value of a header."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from app.text import shortened
from app.tools.mcp.definitions import definition_hash
from app.tools.mcp.names import public_name

# changed: its definition differs from the one that was allowed, so it is not offered. gone: it is no longer listed.
ToolState = Literal["allowed", "not allowed", "changed", "gone"]
_DESCRIPTION_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class McpTool:
    """A tool of a server."""

    tool: Annotated[str, "Name at the server."]
    state: Annotated[str, "`allowed`, `not allowed`, `changed` since it was allowed, or `gone` from the list."]
    offered_as: Annotated[str, "Name that models see."]
    needs_approval: Annotated[bool, "Whether each call needs the user's approval."]
    read_only: Annotated[bool, "Whether the server says that it changes nothing."]
    description: Annotated[str, "Start of its description."]


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServerStatus:
    """A registered MCP server and its tools."""

    name: Annotated[str, "Name of the server."]
    url: Annotated[str, "URL of its endpoint."]
    enabled: Annotated[bool, "Whether turns may call its allowed tools."]
    needs_approval: Annotated[bool, "Whether each call of each tool needs the user's approval."]
    headers: Annotated[list[str], "Names of the headers that are sent; their values are encrypted."]
    connect_seconds: Annotated[float, "Seconds to connect."]
    call_seconds: Annotated[float, "Seconds for the response to one request."]
    total_seconds: Annotated[float, "Seconds for a call with its handshake."]
    protocol_version: Annotated[str | None, "Version of the protocol that it uses; null before the first list."]
    listed_at: Annotated[datetime | None, "When its tools were listed last; null before the first list."]
    checked_at: Annotated[datetime | None, "When it was requested last for its list; null before the first time."]
    error: Annotated[str | None, "Why the last request for its list failed; null if it succeeded."]
    tools: Annotated[list[McpTool], "Its tools as it listed them last, and allowed ones that are gone."]


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServersReport:
    """All registered MCP servers."""

    servers: Annotated[list[McpServerStatus], "The servers by name."]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutTool:
    """A listed tool that cannot be used."""

    tool: Annotated[str, "Name at the server, as far as it can be shown."]
    reason: Annotated[str, "Why it is left out."]


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServerTested:
    """The result of a request for the list of tools of a server."""

    ok: Annotated[bool, "Whether the server listed its tools."]
    seconds: Annotated[float, "Duration of the request."]
    problem: Annotated[str | None, "The error in one sentence; null without one."]
    left_out: Annotated[list[LeftOutTool], "Listed tools that cannot be used."]
    server: Annotated[McpServerStatus, "The server afterwards."]


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServerRemoved:
    """A server that is no longer registered."""

    name: Annotated[str, "Name of the server."]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsRotated:
    """The stored headers after a rotation of the key."""

    rotated: Annotated[list[str], "Servers whose headers are now encrypted with the current key."]
    unreadable: Annotated[list[str], "Servers whose headers no key of this server decrypts."]


def status_of(row: Any) -> McpServerStatus:
    """Return the status of a row of `mcp_servers`."""
    return McpServerStatus(
        name=row.name,
        url=row.url,
        enabled=row.enabled,
        needs_approval=row.needs_approval,
        headers=list(row.header_names),
        connect_seconds=row.connect_seconds,
        call_seconds=row.call_seconds,
        total_seconds=row.total_seconds,
        protocol_version=row.protocol_version,
        listed_at=row.listed_at,
        checked_at=row.checked_at,
        error=row.error,
        tools=list(_tools(row)),
    )


def changed_tools(row: Any) -> list[McpTool]:
    """Return the allowed tools of a row that are not offered, because they changed or are gone."""
    return [tool for tool in _tools(row) if tool.state in ("changed", "gone")]


def _tools(row: Any) -> Sequence[McpTool]:
    stored = {tool["name"]: tool for tool in row.tools}
    return [_tool(row, name, stored.get(name)) for name in sorted({*stored, *row.allowed})]


def _tool(row: Any, name: str, stored: dict[str, Any] | None) -> McpTool:
    allowed = row.allowed.get(name)
    state: ToolState = "not allowed"
    if allowed is not None:
        state = "gone" if stored is None else "allowed"
        if stored is not None and allowed["hash"] != definition_hash(stored):
            state = "changed"
    return McpTool(
        tool=name,
        state=state,
        offered_as=public_name(row.name, name),
        needs_approval=row.needs_approval or bool(allowed and allowed.get("needs_approval")),
        read_only=bool(stored and stored["read_only"]),
        description=shortened(stored["description"], _DESCRIPTION_CHARS) if stored else "",
    )
