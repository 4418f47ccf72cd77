"""Registration of MCP servers, and the choice of their tools. Every web worker uses a change within five seconds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from app.bounds import MAX_SECONDS, MCP_SERVER_NAME_LIMIT
from app.container import current_settings
from app.database import autocommit
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import new_id
from app.repositories import mcp_servers as sql
from app.services.secret_box import SecretUnreadable, secret_box
from app.tools.mcp.definitions import MAX_NAME, definition_hash
from app.tools.mcp.policy import address_policy, check_headers, check_url
from app.tools.tool import BUILTIN
from ops.mcp.reports import McpServerRemoved, McpServersReport, McpServerStatus, SecretsRotated, status_of
from ops.runs.actors import Actor

MAX_SERVERS: Final = 50
MIN_SECONDS: Final = 0.1
CONNECT_SECONDS: Final = 5.0
CALL_SECONDS: Final = 30.0
TOTAL_SECONDS: Final = 60.0

_NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{MCP_SERVER_NAME_LIMIT - 1}}}")


def list_servers() -> McpServersReport:
    """Return all servers with their tools as they were listed last."""
    with autocommit() as connection:
        return McpServersReport(servers=[status_of(row) for row in sql.ALL.all(connection, {})])


def find_row(name: str) -> Any:
    """Return the row of a server. Raises `NotFound`."""
    with autocommit() as connection:
        rows = sql.NAMED.all(connection, {"names": [name]})
    if not rows:
        raise _unknown(name)
    return rows[0]


def add_server(
    *,
    name: str,
    url: str,
    headers: Mapping[str, str],
    by: Actor,
    enabled: bool = True,
    needs_approval: bool = False,
    connect: float = CONNECT_SECONDS,
    call: float = CALL_SECONDS,
    total: float = TOTAL_SECONDS,
) -> McpServerStatus:
    """Register a server without any allowed tool; nothing is sent to it.

    Raises `InvalidInput` for a name, URL, header or time out of bounds, and `Conflict` for a name in use or too many
    servers.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"The name of an MCP server has 1 to {MCP_SERVER_NAME_LIMIT} lower-case letters, digits and hyphens, and"
            " begins with a letter."
        )
    if name == BUILTIN:
        raise InvalidInput(f"{BUILTIN} is the name of Parley's own tools in metrics and at /mcp; choose another one.")
    settings = current_settings()
    check_url(url, address_policy(settings.mcp_servers))
    check_headers(headers)
    if not all(MIN_SECONDS <= seconds <= MAX_SECONDS for seconds in (connect, call, total)):
        raise InvalidInput(f"Each timeout is {MIN_SECONDS:g} to {MAX_SECONDS} seconds.")
    values = {
        "name": name,
        "url": url,
        "enabled": enabled,
        "needs_approval": needs_approval,
        "header_names": sorted(headers),
        "headers": secret_box(settings).encrypt(orjson.dumps(dict(headers)).decode()) if headers else None,
        "connect": connect,
        "call": call,
        "total": total,
        "max_servers": MAX_SERVERS,
        **_change(by),
    }
    with autocommit() as connection:
        added = sql.ADD.one(connection, values)
    if added is None:
        raise Conflict(f"An MCP server {name} exists, or there are {MAX_SERVERS} servers; remove one first.")
    return status_of(find_row(name))


def set_enabled(*, name: str, enabled: bool, by: Actor) -> McpServerStatus:
    """Enable or disable a server; its allowed tools are kept. Raises `NotFound`."""
    with autocommit() as connection:
        changed = sql.SET_ENABLED.one(connection, {"name": name, "enabled": enabled, **_change(by)})
    if changed is None:
        raise _unknown(name)
    return status_of(find_row(name))


def remove_server(*, name: str) -> McpServerRemoved:
    """Delete a server with its headers and allowed tools. Raises `NotFound`."""
    with autocommit() as connection:
        removed = sql.REMOVE.one(connection, {"name": name})
    if removed is None:
        raise _unknown(name)
    return McpServerRemoved(name=name)


def allow_tools(*, name: str, tools: Sequence[str], by: Actor, needs_approval: bool = False) -> McpServerStatus:
    """Allow tools as they are defined now; a later change of a definition withdraws it.

    Raises `NotFound` for the server, and for tools that it has not listed.
    """
    row = find_row(name)
    stored = {tool["name"]: tool for tool in row.tools}
    if unknown := [tool for tool in tools if tool not in stored]:
        raise NotFound(
            f"{name} has listed no tool {unknown[0][:MAX_NAME]!r}; `flask ops mcp test {name}` lists its tools again."
        )
    added = {
        tool: {"hash": definition_hash(stored[tool]), "needs_approval": needs_approval} for tool in dict.fromkeys(tools)
    }
    return _change_allowed(name, add=added, remove=[], by=by)


def disallow_tools(*, name: str, tools: Sequence[str], by: Actor) -> McpServerStatus:
    """Withdraw allowed tools. Raises `NotFound` for the server, and for tools that are not allowed."""
    allowed = find_row(name).allowed
    if unknown := [tool for tool in tools if tool not in allowed]:
        raise NotFound(f"The tool {unknown[0][:MAX_NAME]!r} of {name} is not allowed.")
    return _change_allowed(name, add={}, remove=list(tools), by=by)


def rotate_secrets() -> SecretsRotated:
    """Encrypt all stored headers with the current key. Those that no key decrypts are left as they are."""
    box = secret_box(current_settings())
    rotated, unreadable = [], []
    with autocommit() as connection:
        rows = sql.SECRETS.all(connection, {})
        for row in rows:
            try:
                new = box.rotate(row.headers)
            except SecretUnreadable:
                unreadable.append(row.name)
                continue
            sql.RE_ENCRYPT.one(
                connection, {"name": row.name, "old": row.headers, "new": new, "revision": str(new_id())}
            )
            rotated.append(row.name)
    return SecretsRotated(rotated=rotated, unreadable=unreadable)


def _change_allowed(name: str, *, add: Mapping[str, Any], remove: Sequence[str], by: Actor) -> McpServerStatus:
    values = {"name": name, "add": orjson.dumps(add).decode(), "remove": list(remove), **_change(by)}
    with autocommit() as connection:
        changed = sql.ALLOW.one(connection, values)
    if changed is None:
        raise _unknown(name)
    return status_of(find_row(name))


def _change(by: Actor) -> dict[str, str]:
    return {"revision": str(new_id()), "by": by.name[:255]}


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no MCP server {name[:MCP_SERVER_NAME_LIMIT]!r}; `flask ops mcp list` shows all.")
