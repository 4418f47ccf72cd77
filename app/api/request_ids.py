"""Request ids in responses and logs: the caller's `X-Request-ID` if it is well-formed, else a new one."""

import logging
import re
import time

from flask import Flask, Response, g, request

from app.ids import new_id
from app.logs import request_id
from app.trace_context import parse_trace_context, trace_context

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("parley.http")


def current_request_id() -> str:
    """Return the id of the current request, or an empty string outside of requests."""
    return request_id.get()


def begin_request_id(sent: str) -> str:
    """Set and return the id of a new request: `sent` if it is well-formed, else a new one."""
    request_id.set(sent if _WELL_FORMED.fullmatch(sent) else new_id().hex)
    return request_id.get()


def init_app(flask_app: Flask) -> None:
    """Set the id and the trace of each request, and log one line when it is finished."""

    @flask_app.before_request
    def begin() -> None:
        begin_request_id(request.headers.get("X-Request-ID", ""))
        trace_context.set(
            parse_trace_context(request.headers.get("traceparent", ""), request.headers.get("tracestate", ""))
        )
        g.started = time.perf_counter()

    @flask_app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = request_id.get()
        _log.info(
            "%s %s %s",
            request.method,
            # The route's template, because a path contains ids, and a mistyped one anything.
            request.url_rule.rule if request.url_rule else "(no route)",
            response.status_code,
            extra={
                "status": response.status_code,
                "milliseconds": round((time.perf_counter() - g.get("started", time.perf_counter())) * 1000, 1),
            },
        )
        return response
