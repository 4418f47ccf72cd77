"""`flask ops mcp`: MCP servers whose tools turns may call."""

import sys

import click
from rich.console import Console
from rich.text import Text

from ops.cli.actions import ChangePlan, confirm, operator
from ops.cli.base import group, json_option, print_report, yes_option
from ops.cli.rendering import table
from ops.levels import Level
from ops.mcp import check, servers
from ops.mcp.reports import McpServersReport, McpServerStatus, McpServerTested
from ops.runs.audit import audited


@group("mcp")
def mcp() -> None:
    """Register MCP servers, and allow their tools.

    All web workers use a change within five seconds.
    """


@mcp.command("list")
@json_option
def list_all(json: bool) -> None:
    """List the servers and their tools, as they were listed last."""
    report = servers.list_servers()
    print_report("mcp list", report, json=json, view=lambda console: _print_servers(console, report))


@mcp.command("add")
@click.argument("name")
@click.argument("url")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME",
    help="Header to send, such as Authorization; its value is asked for, or read as a line of standard input.",
)
@click.option("--disabled", is_flag=True, help="Offer no tool until `flask ops mcp enable`.")
@click.option("--approval", is_flag=True, help="Each call of each tool needs the user's approval.")
@click.option("--connect", type=float, default=servers.CONNECT_SECONDS, show_default=True, help="Seconds to connect.")
@click.option("--call", type=float, default=servers.CALL_SECONDS, show_default=True, help="Seconds for one response.")
@click.option(
    "--total", type=float, default=servers.TOTAL_SECONDS, show_default=True, help="Seconds for a call with handshake."
)
@json_option
def add(
    name: str,
    url: str,
    headers: tuple[str, ...],
    disabled: bool,
    approval: bool,
    connect: float,
    call: float,
    total: float,
    json: bool,
) -> None:
    """Register the server at URL as NAME, and list its tools. None of them is allowed yet."""
    by = operator()
    values = {header: _secret(header) for header in headers}
    with audited(actor=by, action="mcp.add", target=name, details={"url": url, "headers": sorted(values)}):
        servers.add_server(
            name=name,
            url=url,
            headers=values,
            by=by,
            enabled=not disabled,
            needs_approval=approval,
            connect=connect,
            call=call,
            total=total,
        )
    _print_tested("mcp add", check.test_server(name), json=json)


@mcp.command("test")
@click.argument("name")
@json_option
def test(name: str, json: bool) -> None:
    """List the tools of a server again. Exit code 2 if it does not answer."""
    with audited(actor=operator(), action="mcp.test", target=name) as notes:
        tested = check.test_server(name)
        notes["ok"] = tested.ok
    _print_tested("mcp test", tested, json=json)


@mcp.command("allow")
@click.argument("name")
@click.argument("tools", nargs=-1, required=True, metavar="TOOLS")
@click.option("--approval", is_flag=True, help="Each call of these tools needs the user's approval.")
@json_option
def allow(name: str, tools: tuple[str, ...], approval: bool, json: bool) -> None:
    """Allow tools of a server as they are defined now.

    A tool whose definition changes is withdrawn until it is allowed again.
    """
    by = operator()
    details = {"tools": list(tools), "needs_approval": approval}
    with audited(actor=by, action="mcp.allow", target=name, details=details):
        status = servers.allow_tools(name=name, tools=tools, by=by, needs_approval=approval)
    _print_status("mcp allow", status, json=json)


@mcp.command("disallow")
@click.argument("name")
@click.argument("tools", nargs=-1, required=True, metavar="TOOLS")
@json_option
def disallow(name: str, tools: tuple[str, ...], json: bool) -> None:
    """Withdraw allowed tools of a server."""
    by = operator()
    with audited(actor=by, action="mcp.disallow", target=name, details={"tools": list(tools)}):
        status = servers.disallow_tools(name=name, tools=tools, by=by)
    _print_status("mcp disallow", status, json=json)


@mcp.command("enable")
@click.argument("name")
@json_option
def enable(name: str, json: bool) -> None:
    """Let turns call the allowed tools of a server again."""
    by = operator()
    with audited(actor=by, action="mcp.enable", target=name):
        status = servers.set_enabled(name=name, enabled=True, by=by)
    _print_status("mcp enable", status, json=json)


@mcp.command("disable")
@click.argument("name")
@json_option
def disable(name: str, json: bool) -> None:
    """Offer no tool of a server to turns; what is allowed is kept."""
    by = operator()
    with audited(actor=by, action="mcp.disable", target=name):
        status = servers.set_enabled(name=name, enabled=False, by=by)
    _print_status("mcp disable", status, json=json)


@mcp.command("remove")
@click.argument("name")
@yes_option
@json_option
def remove(name: str, yes: bool, json: bool) -> None:
    """Delete a server with its headers and what is allowed of it."""
    row = servers.find_row(name)
    confirm(
        ChangePlan(summary=f"delete the MCP server {name} at {row.url}.", undo=f"flask ops mcp add {name} {row.url}"),
        yes=yes,
    )
    with audited(actor=operator(), action="mcp.remove", target=name, details={"url": row.url}):
        removed = servers.remove_server(name=name)
    print_report("mcp remove", removed, json=json)


@mcp.command("rotate")
@json_option
def rotate(json: bool) -> None:
    """Encrypt the stored headers of all servers with the current key. Exit code 1 if some cannot be decrypted."""
    with audited(actor=operator(), action="mcp.rotate") as notes:
        rotated = servers.rotate_secrets()
        notes.update(rotated=rotated.rotated, unreadable=rotated.unreadable)
    level = Level.WARNING if rotated.unreadable else Level.OK
    print_report("mcp rotate", rotated, json=json, level=level)


def _secret(header: str) -> str:
    """Return the value of a header. It is never an argument, because other users of the host can read those."""
    if sys.stdin.isatty():
        return str(click.prompt(f"Value of {header}", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _print_tested(command: str, tested: McpServerTested, *, json: bool) -> None:
    def view(console: Console) -> None:
        if tested.problem is not None:
            console.print(Text(tested.problem, style="bold red"))
        _print_server(console, tested.server)
        for tool in tested.left_out:
            console.print(Text(f"{tool.tool} is left out: {tool.reason}.", style="yellow"))

    print_report(command, tested, json=json, level=Level.OK if tested.ok else Level.CRITICAL, view=view)


def _print_status(command: str, status: McpServerStatus, *, json: bool) -> None:
    print_report(command, status, json=json, view=lambda console: _print_server(console, status))


def _print_servers(console: Console, report: McpServersReport) -> None:
    if not report.servers:
        console.print("No MCP server is registered.", style="dim")
    for status in report.servers:
        _print_server(console, status)
        console.print()


def _print_server(console: Console, status: McpServerStatus) -> None:
    state = "enabled" if status.enabled else "disabled"
    console.print(Text(f"{status.name} ({state}) {status.url}", style="bold"))
    if status.error:
        console.print(Text(f"last list failed: {status.error}", style="red"))
    table(
        console,
        [
            {
                "tool": tool.tool,
                "state": tool.state,
                "approval": "each call" if tool.needs_approval else "none",
                "offered as": tool.offered_as,
                "description": tool.description,
            }
            for tool in status.tools
        ],
    )
