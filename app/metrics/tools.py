"""Metrics of the calls of tools."""

from typing import Final, Literal, get_args

from app.metrics.registry import OTHER, LabelledChildren, counter, histogram

# ok; failed: the tool reports a failure; invalid: the arguments do not fit; crashed: an unexpected error;
# cancelled: the caller did not wait for the end.
ToolOutcome = Literal["ok", "failed", "invalid", "crashed", "cancelled"]

# Parley's own tools, which a test compares with those that are offered.
BUILTIN_TOOLS: Final = (
    "add_task",
    "complete_task",
    "delete_task",
    "list_tasks",
    "search_conversations",
    "update_task",
)
_BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

TOOL_CALLS = counter(
    "tool_calls_total",
    "Calls of tools by tool, source (builtin or an MCP server) and outcome.",
    ("tool", "source", "outcome"),
)
TOOL_CALL_DURATION = histogram(
    "tool_call_duration_seconds", "Duration of a tool's call, by source.", ("source",), buckets=_BUCKETS
)

# Exposed from the start, so that a sum is 0 and not absent before the first call.
TOOL_CALLS.series = [
    *((tool, "builtin", outcome) for tool in BUILTIN_TOOLS for outcome in get_args(ToolOutcome)),
    (OTHER, OTHER, "ok"),
    (OTHER, OTHER, "failed"),
]
TOOL_CALL_DURATION.series = [(OTHER,)]
_calls = LabelledChildren(TOOL_CALLS, limit=400, overflow=(OTHER, OTHER, OTHER))
_durations = LabelledChildren(TOOL_CALL_DURATION, limit=50, overflow=(OTHER,))


def record_tool_call(tool: str, source: str, outcome: ToolOutcome, seconds: float) -> None:
    """Record a call. `tool` and `source` are names of registered tools, never what a model sent."""
    _calls[tool, source, outcome].inc()
    _durations[(source,)].observe(seconds)
