"""Metrics of the requests to MCP servers. The calls of their tools are counted as those of all tools."""

from typing import Final, Literal

from app.metrics.registry import OTHER, LabelledChildren, counter, gauge, histogram

CircuitState = Literal["closed", "half_open", "open"]
McpMethod = Literal["tools/call", "tools/list"]
# ok; rejected: the server refuses the request; failed: no usable answer; skipped: the circuit is open.
McpOutcome = Literal["ok", "rejected", "failed", "skipped"]

_CIRCUIT_VALUES: Final[dict[CircuitState, int]] = {"closed": 0, "half_open": 1, "open": 2}
_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

MCP_REQUESTS = counter(
    "mcp_requests_total",
    "Requests to MCP servers by server, method and outcome: ok, rejected by the server, failed, or skipped because the"
    " circuit is open.",
    ("server", "method", "outcome"),
)
MCP_REQUEST_DURATION = histogram(
    "mcp_request_duration_seconds",
    "Time from a request to an MCP server to its result or error.",
    ("server",),
    buckets=_BUCKETS,
)
MCP_CIRCUIT_STATE = gauge(
    "mcp_circuit_state",
    "State of the circuit of an MCP server in a process: 0 closed, 1 half open (one trial request), 2 open.",
    ("server",),
    mode="liveall",
)

# Exposed from the start, so that an alert has a value and is not absent before the first request.
MCP_REQUESTS.series = [(OTHER, "tools/call", "ok"), (OTHER, "tools/call", "failed")]
MCP_REQUEST_DURATION.series = MCP_CIRCUIT_STATE.series = [(OTHER,)]
_requests = LabelledChildren(MCP_REQUESTS, limit=400, overflow=(OTHER, OTHER, OTHER))
_durations = LabelledChildren(MCP_REQUEST_DURATION, limit=50, overflow=(OTHER,))
_circuits = LabelledChildren(MCP_CIRCUIT_STATE, limit=50, overflow=(OTHER,))


def record_mcp_request(server: str, method: McpMethod, outcome: McpOutcome, seconds: float | None = None) -> None:
    """Record a request to `server`, the name of a registered one, and its duration if it was sent."""
    _requests[server, method, outcome].inc()
    if seconds is not None:
        _durations[(server,)].observe(seconds)


def record_mcp_circuit(server: str, state: CircuitState) -> None:
    """Record the new state of the circuit of `server` in this process."""
    _circuits[(server,)].set(_CIRCUIT_VALUES[state])
