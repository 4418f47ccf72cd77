"""The trace of a request, as in W3C Trace Context (https://www.w3.org/TR/trace-context/).

A caller that takes part in distributed tracing sends `traceparent`, and perhaps `tracestate`. Parley creates no spans:
it logs the trace's id, and passes both headers on unchanged to providers, tools and jobs.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

# Version 00 has exactly these four fields; a later version may add more. "ff" is no version.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-.*)?"
)
MAX_TRACEPARENT = 256  # characters; version 00 has 55
MAX_TRACESTATE = 512  # characters, which the standard asks to pass on
_TRACESTATE = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A valid `traceparent`, the id of its trace (32 hex digits), and its `tracestate` or an empty string."""

    traceparent: str
    trace_id: str
    tracestate: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers to send on."""
        state = {"tracestate": self.tracestate} if self.tracestate else {}
        return {"traceparent": self.traceparent, **state}


# Set by app/api/request_ids.py and by a worker for its job; a turn's thread gets it with the request's context.
trace_context: ContextVar[TraceContext | None] = ContextVar("trace_context", default=None)


def parse_trace_context(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """Parse the headers of a request. Returns None if `traceparent` is missing or invalid: the trace then ends here.

    An invalid or too long `tracestate` is left out.
    """
    match = _TRACEPARENT.fullmatch(traceparent.strip()) if len(traceparent) <= MAX_TRACEPARENT else None
    if match is None or (match["version"] == "00" and match["more"]):
        return None
    state = tracestate.strip()
    if len(state) > MAX_TRACESTATE or not _TRACESTATE.fullmatch(state):
        state = ""
    return TraceContext(match[0], match["trace_id"], state)


def trace_headers() -> Mapping[str, str]:
    """Return the headers that continue the current trace: none outside of one."""
    context = trace_context.get()
    return context.headers if context is not None else {}
