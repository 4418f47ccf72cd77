"""The checks of MCP servers."""

from flask import Flask

from ops.checks.findings import Finding
from ops.doctor.registry import select_checks
from ops.doctor.run import run_doctor
from ops.mcp import check, servers
from ops.runs.actors import Actor
from tests.fakes import scripts
from tests.fakes.mcp import ScriptedMcp, tool
from tests.fakes.upstream import Upstream
from tests.ops.mcp.conftest import mcp_url, name, served, server, upstream  # noqa: F401  # fixtures

BY = Actor(kind="command", name="test")


def findings(check_id: str, about: str) -> list[Finding]:
    """Return the findings about one server; other tests may register further ones."""
    [result] = run_doctor(checks=select_checks([check_id])).results
    return [finding for finding in result.findings if finding.object.split()[0] == about]


def test_server_that_does_not_answer_is_reported_until_it_does(
    served: Flask,  # noqa: F811
    name: str,  # noqa: F811
    server: ScriptedMcp,  # noqa: F811
    upstream: Upstream,  # noqa: F811
) -> None:
    with served.app_context():
        servers.add_server(name=name, url=mcp_url(upstream), headers={}, by=BY)
        assert findings("mcp.reachable", name) == []
        upstream.script = scripts.status(401, "no")
        [finding] = findings("mcp.reachable", name)
        assert "rejected the credentials" in finding.message
        upstream.script = server.script
        assert findings("mcp.reachable", name) == []
        upstream.script = scripts.status(401, "no")
        servers.set_enabled(name=name, enabled=False, by=BY)
        assert findings("mcp.reachable", name) == []


def test_changed_tool_is_reported_until_it_is_allowed_again(
    served: Flask,  # noqa: F811
    name: str,  # noqa: F811
    server: ScriptedMcp,  # noqa: F811
    upstream: Upstream,  # noqa: F811
) -> None:
    with served.app_context():
        servers.add_server(name=name, url=mcp_url(upstream), headers={}, by=BY)
        check.test_server(name)
        servers.allow_tools(name=name, tools=["forecast", "delete_all"], by=BY)
        assert findings("mcp.tools_changed", name) == []
        server.tools = [tool("forecast", "Forecasts something else.")]
        check.test_server(name)
        assert {finding.object for finding in findings("mcp.tools_changed", name)} == {
            f"{name} forecast",
            f"{name} delete_all",
        }
        servers.allow_tools(name=name, tools=["forecast"], by=BY)
        servers.disallow_tools(name=name, tools=["delete_all"], by=BY)
        assert findings("mcp.tools_changed", name) == []
