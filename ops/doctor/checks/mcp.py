"""MCP servers: reachable, and with the tools that operators allowed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from app.outbound.timeouts import Timeouts
from app.repositories import mcp_servers as sql
from app.services.mcp_servers import server_of
from app.services.secret_box import secret_box
from app.tools.mcp.policy import address_policy
from ops.checks.context import CheckContext
from ops.checks.declaration import check
from ops.checks.findings import Finding
from ops.levels import Level
from ops.mcp.check import probe_server
from ops.mcp.reports import changed_tools

TIMEOUTS: Final = Timeouts(connect=3, first_token=3, idle=3, total=5)  # all servers are requested at the same time


@check("mcp.reachable", "Do the enabled MCP servers list their tools?", severity=Level.WARNING)
def reachable(context: CheckContext) -> Iterator[Finding]:
    """Request the list of each enabled server, and store nothing."""
    rows = [row for row in sql.ALL.all(context.connection, {}) if row.enabled]
    if not rows:
        return
    servers = [server_of(row, lambda: secret_box(context.settings)) for row in rows]
    policy = address_policy(context.settings.mcp_servers)
    with ThreadPoolExecutor(len(servers)) as pool:
        probes = list(pool.map(lambda server: probe_server(server, policy, TIMEOUTS), servers))
    for server, probe in zip(servers, probes, strict=True):
        if probe.problem is None:
            continue
        yield Finding(
            level=Level.WARNING,
            message=f"The MCP server {server.name} did not list its tools: {probe.problem}",
            object=server.name,
            evidence={"server": server.name, "url": server.url},
            remedy=f"Does {server.name} run, and are its URL and headers right? If it is no longer used: flask ops mcp"
            f" disable {server.name}",
        )


@check("mcp.tools_changed", "Are the allowed tools of MCP servers as they were allowed?", severity=Level.WARNING)
def tools_changed(context: CheckContext) -> Iterator[Finding]:
    """Compare the definitions that operators allowed with those that the servers listed last."""
    for row in sql.ALL.all(context.connection, {}):
        for tool in changed_tools(row) if row.enabled else ():
            yield Finding(
                level=Level.WARNING,
                message=f"The tool {tool.tool} of the MCP server {row.name} "
                + ("has changed since it was allowed" if tool.state == "changed" else "is no longer listed")
                + ", so it is not offered.",
                object=f"{row.name} {tool.tool}",
                evidence={"server": row.name, "tool": tool.tool, "state": tool.state},
                remedy=f"Is this change wanted? See `flask ops mcp test {row.name}`; then `flask ops mcp"
                + (" allow" if tool.state == "changed" else " disallow")
                + f" {row.name} {tool.tool}`",
            )
