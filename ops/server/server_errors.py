"""Responses of the web server itself, before or after the application, in the application's format.

Imported by a worker after it has patched the standard library; the arbiter must not import the application.
"""

import logging
import socket
from contextlib import suppress
from typing import Any

import gevent
from flask import Response
from gunicorn.http import errors  # type: ignore[import-untyped]

from app.api.errors import problem, problem_of
from app.api.request_ids import begin_request_id, current_request_id
from app.api.security import HEADERS
from app.errors import ParleyError
from app.metrics.http import record_request, record_request_begun
from ops.server.bodies import discard_input

_log = logging.getLogger("parley.http")

_SEND_SECONDS = 1.0  # time limit for sending the response

# Status, code and detail by the nearest class of the error. The request is neither quoted nor logged: it may contain a
# token.
_PROBLEMS: dict[type[Exception], tuple[int, str, str]] = {
    errors.LimitRequestLine: (414, "uri_too_long", "The request line is too long; shorten the path or the query."),
    errors.LimitRequestHeaders: (431, "headers_too_large", "Too many or too long header fields; send fewer."),
    errors.ExpectationFailed: (417, "expectation_failed", "The only supported expectation is `Expect: 100-continue`."),
    errors.UnsupportedTransferCoding: (501, "not_implemented", "The only supported transfer coding is `chunked`."),
    **{
        kind: (400, "bad_request", f"The request is not HTTP/1.1 (RFC 9112): {problem}.")
        for kind, problem in (
            (errors.InvalidRequestLine, "malformed request line"),
            (errors.InvalidRequestMethod, "malformed method"),
            (errors.InvalidHTTPVersion, "another version"),
            (errors.InvalidHeaderName, "malformed name of a header field"),
            (errors.InvalidHeader, "malformed or contradictory header field"),
            (errors.ParseException, "malformed"),
        )
    },
}
_SERVER_FAULTS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)


def send_problem(client: socket.socket, request: Any, error: BaseException) -> None:
    """Send a problem response for an error of gunicorn, and log it; the caller closes `client`.

    `request` is gunicorn's request, or None if its head could not be read.
    """
    begin_request_id(dict(request.headers).get("X-REQUEST-ID", "") if request is not None else "")
    entry = next((_PROBLEMS[kind] for kind in type(error).__mro__ if kind in _PROBLEMS), None)
    if entry is None or isinstance(error, _SERVER_FAULTS):
        _log.error("unexpected error", exc_info=error)
        response = problem_of(ParleyError())
    else:
        status, code, detail = entry
        _log.info("%s before the request was complete: %s", status, type(error).__name__, extra={"status": status})
        record_request_begun()  # server errors were counted by the application
        record_request("", None, status, 0)
        response = problem(status, code, detail)
    # The client may have disconnected or stopped reading.
    with suppress(OSError), gevent.Timeout(_SEND_SECONDS, False):  # type: ignore[arg-type]  # False: no exception
        client.sendall(_serialize(response, with_body=getattr(request, "method", "") != "HEAD"))
    discard_input(client)


def _serialize(response: Response, *, with_body: bool) -> bytes:
    response.headers.update({**HEADERS, "X-Request-ID": current_request_id(), "Connection": "close"})
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in response.headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (response.get_data() if with_body else b"")
