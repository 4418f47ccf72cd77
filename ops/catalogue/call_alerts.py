"""Alerts on calls: of providers, of MCP clients and of tools."""

from app.metrics.chat import AI_CIRCUIT_STATE
from app.metrics.mcp import MCP_REQUESTS
from app.metrics.tools import TOOL_CALLS
from app.tools.tool import BUILTIN
from ops.catalogue.alert_declarations import Alert, Signal, runbook_path, when
from ops.catalogue.promql import rate, series

CALL_ALERTS = (
    Alert(
        name="ParleyCircuitOpen",
        conditions=when(f"max by (provider, model) ({series(AI_CIRCUIT_STATE, model='~.+')})", "==", 2),
        required=(series(AI_CIRCUIT_STATE),),
        duration="5m",
        severity="page",
        summary="The circuit of {{ $labels.provider }} ({{ $labels.model }}) is open.",
        affected="Users who chat with this model: they get a fallback, or an error.",
        runbook=runbook_path("provider-reachable"),
        signals=(Signal(series(AI_CIRCUIT_STATE, provider="openai", model="gpt", process="1"), 0, 2),),
    ),
    Alert(
        name="ParleyMcpServerFailing",
        conditions=when(
            f"{rate(MCP_REQUESTS, '10m', ('server',), outcome='~failed|skipped')}"
            f" / {rate(MCP_REQUESTS, '10m', ('server',))}",
            ">",
            0.5,
        ),
        floor=f"{rate(MCP_REQUESTS, '10m', ('server',))} > 0.01",
        required=(series(MCP_REQUESTS),),
        duration="15m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the requests to the MCP server {{ $labels.server }} fail.",
        affected="Users whose chats call tools of this server: the calls fail.",
        runbook=runbook_path("mcp-reachable"),
        signals=(
            Signal(series(MCP_REQUESTS, server="weather", method="tools/call", outcome="ok"), 6, 0, "counter"),
            Signal(series(MCP_REQUESTS, server="weather", method="tools/call", outcome="failed"), 0, 6, "counter"),
        ),
    ),
    Alert(
        name="ParleyToolsFailing",
        conditions=when(
            f"{rate(TOOL_CALLS, '10m', ('tool',), source=BUILTIN, outcome='crashed')}"
            f" / {rate(TOOL_CALLS, '10m', ('tool',), source=BUILTIN)}",
            ">",
            0.1,
        ),
        floor=f"{rate(TOOL_CALLS, '10m', ('tool',), source=BUILTIN)} > 0.01",
        required=(series(TOOL_CALLS),),
        duration="10m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the calls of the tool {{ $labels.tool }} fail unexpectedly.",
        affected="Users whose chats or MCP clients call this tool: nothing is done.",
        runbook=runbook_path("alert-tools"),
        signals=(
            Signal(series(TOOL_CALLS, tool="add_task", source=BUILTIN, outcome="ok"), 6, 6, "counter"),
            Signal(series(TOOL_CALLS, tool="add_task", source=BUILTIN, outcome="crashed"), 0, 6, "counter"),
        ),
    ),
    Alert(
        name="ParleyMcpToolsFailing",
        conditions=when(
            f"{rate(TOOL_CALLS, '10m', ('source', 'tool'), source=f'!{BUILTIN}', outcome='~failed|crashed')}"
            f" / {rate(TOOL_CALLS, '10m', ('source', 'tool'), source=f'!{BUILTIN}')}",
            ">",
            0.5,
        ),
        floor=f"{rate(TOOL_CALLS, '10m', ('source', 'tool'), source=f'!{BUILTIN}')} > 0.01",
        required=(series(TOOL_CALLS),),
        duration="15m",
        severity="ticket",
        summary="{{ $value | humanizePercentage }} of the calls of {{ $labels.tool }} ({{ $labels.source }}) fail.",
        affected="Users whose chats call this tool: the answers do without its results.",
        runbook=runbook_path("alert-mcp-tools"),
        signals=(
            Signal(series(TOOL_CALLS, tool="weather__now", source="weather", outcome="ok"), 6, 0, "counter"),
            Signal(series(TOOL_CALLS, tool="weather__now", source="weather", outcome="failed"), 0, 6, "counter"),
        ),
    ),
)
