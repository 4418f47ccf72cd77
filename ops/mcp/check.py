"""Requests for the lists of tools of MCP servers: by an operator, and by a job before a list expires."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import orjson

from app.bounds import MCP_ERROR_LIMIT
from app.container import current_settings
from app.database import autocommit
from app.ids import new_id
from app.outbound.addresses import AddressPolicy
from app.outbound.timeouts import Timeouts
from app.repositories import mcp_servers as sql
from app.services.mcp_servers import McpServer, server_of
from app.services.secret_box import SecretBox, secret_box
from app.text import shortened
from app.tools.mcp.calls import new_client
from app.tools.mcp.definitions import list_hash
from app.tools.mcp.errors import McpError
from app.tools.mcp.listing import Listing, list_tools
from app.tools.mcp.policy import address_policy
from ops.mcp.reports import LeftOutTool, McpServerTested, changed_tools, status_of
from ops.mcp.servers import find_row

RETRY_SECONDS: Final = 60  # after a failure
JOB_SECONDS: Final = 40.0
PARALLEL: Final = 8
# The upper bounds for a list; a server's own timeouts are for calls.
MAX_TIMEOUTS: Final = Timeouts(connect=5, first_token=15, idle=15, total=20)

_log = logging.getLogger("parley.mcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolListsReport:
    """Lists that were due. `changed` are the servers with another list, `failed` those that sent none."""

    checked: int
    changed: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of one request for a list."""

    listing: Listing | None
    problem: str | None


def test_server(name: str) -> McpServerTested:  # of a server
    """Request the list of tools of a server, also of a disabled one, and store it. Raises `NotFound`."""
    row = find_row(name)
    started = monotonic()
    probe = probe_server(server_of(row, _box), address_policy(current_settings().mcp_servers))
    seconds = monotonic() - started
    _store(row, probe)
    left_out = probe.listing.left_out if probe.listing else {}
    return McpServerTested(
        ok=probe.problem is None,
        seconds=seconds,
        problem=probe.problem,
        left_out=[LeftOutTool(tool=tool, reason=reason) for tool, reason in left_out.items()],
        server=status_of(find_row(name)),
    )


def refresh_tools(*, seconds: float = JOB_SECONDS) -> ToolListsReport:
    """Request the lists of enabled servers whose time to live has passed; begin none after `seconds`.

    A server that fails is requested again after `RETRY_SECONDS`. No database connection is held during a request.
    """
    until = monotonic() + seconds
    policy = address_policy(current_settings().mcp_servers)
    with autocommit() as connection:
        names = [row.name for row in sql.DUE.all(connection, {"retry": RETRY_SECONDS})]
        rows = sql.NAMED.all(connection, {"names": names}) if names else []
    servers = [server_of(row, _box) for row in rows]
    with ThreadPoolExecutor(PARALLEL) as pool:
        probes = list(pool.map(lambda server: probe_server(server, policy) if monotonic() < until else None, servers))
    done = [(row, probe) for row, probe in zip(rows, probes, strict=True) if probe is not None]
    changed = [row.name for row, probe in done if _store(row, probe)]
    failed = [row.name for row, probe in done if probe.problem is not None]
    return ToolListsReport(checked=len(done), changed=tuple(changed), failed=tuple(failed))


def probe_server(server: McpServer, policy: AddressPolicy, timeouts: Timeouts = MAX_TIMEOUTS) -> Probe:
    """Request the list of tools of a server, within its timeouts and `timeouts`. Never raises for the server."""
    bounded = Timeouts(
        connect=min(server.timeouts.connect, timeouts.connect),
        first_token=min(server.timeouts.first_token, timeouts.first_token),
        idle=min(server.timeouts.idle, timeouts.idle),
        total=min(server.timeouts.total, timeouts.total),
    )
    client = new_client(server, policy, bounded)
    if client is None:
        return Probe(None, "Its stored headers cannot be decrypted with the keys of this server.")
    try:
        return Probe(list_tools(client, bounded.total), None)
    except McpError as error:
        reason = f" Its message: {error.reason}" if error.reason else ""
        return Probe(None, f"{server.name} {error.message}.{reason}")


def _store(row: Any, probe: Probe) -> bool:
    """Store the result of a request, and return whether the list has changed."""
    if probe.listing is None:
        error = shortened(probe.problem or "", MCP_ERROR_LIMIT)
        with autocommit() as connection:
            sql.FAILED.one(connection, {"name": row.name, "url": row.url, "error": error})
        _log.warning("the tools of the MCP server %s could not be listed: %s", row.name, error)
        return False
    definitions = [definition.stored() for definition in probe.listing.tools]
    values = {
        "name": row.name,
        "url": row.url,
        "tools": orjson.dumps(definitions).decode(),
        "hash": list_hash(definitions),
        "ttl": probe.listing.ttl_seconds,
        "version": probe.listing.version,
        "revision": str(new_id()),
    }
    with autocommit() as connection:
        sql.LISTED.one(connection, values)
    is_changed = row.tools_hash is not None and values["hash"] != row.tools_hash
    if is_changed:
        _log_withdrawn(row.name)
    return is_changed


def _log_withdrawn(name: str) -> None:
    with autocommit() as connection:
        rows: Sequence[Any] = sql.NAMED.all(connection, {"names": [name]})
    for row in rows:
        if tools := [tool.tool for tool in changed_tools(row)]:
            _log.warning("allowed tools of the MCP server %s changed and are not offered: %s", name, ", ".join(tools))


def _box() -> SecretBox:
    return secret_box(current_settings())
