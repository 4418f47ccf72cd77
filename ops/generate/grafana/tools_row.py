"""The row of the dashboard Turns and providers about tools and MCP servers."""

from app.metrics.mcp import MCP_CIRCUIT_STATE, MCP_REQUEST_DURATION, MCP_REQUESTS
from app.metrics.tools import TOOL_CALL_DURATION, TOOL_CALLS
from ops.catalogue.promql import quantile, rate, series
from ops.generate.grafana.panels import WINDOW, Panel, Query, Row

TOOLS_ROW = Row(
    "Tools and MCP servers",
    (
        Panel(
            title="Calls of tools",
            description="Calls per second by tool; the source is builtin or an MCP server.",
            queries=(Query(rate(TOOL_CALLS, WINDOW, ("source", "tool")), "{{source}} {{tool}}"),),
            unit="ops",
            no_value="No process is scraped",
            runbook="mcp-reachable",
        ),
        Panel(
            title="Calls without a result",
            description="Calls per second that failed, by tool and outcome: failed, invalid arguments, or crashed.",
            queries=(
                Query(
                    rate(TOOL_CALLS, WINDOW, ("source", "tool", "outcome"), outcome="~failed|invalid|crashed"),
                    "{{source}} {{tool}} {{outcome}}",
                ),
            ),
            unit="ops",
            no_value="No call has failed since the start",
            runbook="mcp-reachable",
        ),
        Panel(
            title="Duration of a call",
            description="p95 of the time from a call of a tool to its result, by source.",
            queries=(Query(quantile(0.95, TOOL_CALL_DURATION, WINDOW, ("source",)), "{{source}}"),),
            unit="s",
            no_value="No call in this window",
            runbook="mcp-reachable",
        ),
        Panel(
            title="Requests to MCP servers",
            description="Requests per second by server and outcome; skipped means that the circuit is open.",
            queries=(Query(rate(MCP_REQUESTS, WINDOW, ("server", "outcome")), "{{server}} {{outcome}}"),),
            unit="ops",
            no_value="No process is scraped",
            runbook="mcp-reachable",
        ),
        Panel(
            title="Duration of a request to MCP servers",
            description="p95 of the time from a request to an MCP server to its result or error.",
            queries=(Query(quantile(0.95, MCP_REQUEST_DURATION, WINDOW, ("server",)), "{{server}}"),),
            unit="s",
            no_value="No request in this window",
            runbook="mcp-reachable",
        ),
        Panel(
            title="Circuits of MCP servers",
            description="0 closed, 1 half open, 2 open: an open circuit sends no requests to a server.",
            queries=(Query(f"max by (server) ({series(MCP_CIRCUIT_STATE)})", "{{server}}"),),
            unit="none",
            no_value="No MCP server has been called since the start",
            runbook="mcp-reachable",
            thresholds=((1, "orange"), (2, "red")),
        ),
    ),
)
