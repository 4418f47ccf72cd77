"""What the web server itself refuses, or fails at, before or behind the application: told in the application's shape.

Imported by a worker once it has patched the standard library, never by the arbiter: it brings the application along.
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

_log = logging.getLogger("parley.http")

_SECONDS = 1.0  # for the answer to be taken in
_LINGER_BYTES = 1_048_576

# Status, code and detail; the nearest class of the error decides. What was sent is neither quoted nor logged: it
# may hold a token.
_REFUSALS: dict[type[Exception], tuple[int, str, str]] = {
    errors.LimitRequestLine: (414, "uri_too_long", "The request line is too long; shorten the path or the query."),
    errors.LimitRequestHeaders: (431, "headers_too_large", "The header fields are too many or too long; send less."),
    errors.ExpectationFailed: (417, "expectation_failed", "The one expectation known here is `Expect: 100-continue`."),
    errors.UnsupportedTransferCoding: (501, "not_implemented", "The one transfer coding known here is `chunked`."),
    **{
        kind: (400, "bad_request", f"The request is not HTTP/1.1 (RFC 9112): {what}.")
        for kind, what in (
            (errors.InvalidRequestLine, "its first line is malformed"),
            (errors.InvalidRequestMethod, "its method is malformed"),
            (errors.InvalidHTTPVersion, "it names another version"),
            (errors.InvalidHeaderName, "the name of a header field is malformed"),
            (errors.InvalidHeader, "a header field is malformed, or contradicts another"),
            (errors.ParseException, "it is malformed"),
        )
    },
}
_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)


def tell(client: socket.socket, request: Any, error: BaseException) -> None:
    """Answer what gunicorn met with one problem, and log it; the caller closes `client`.

    `request` is what gunicorn knows of it: None while its head has not been read.
    """
    begin_request_id(dict(request.headers).get("X-REQUEST-ID", "") if request is not None else "")
    known = next((_REFUSALS[kind] for kind in type(error).__mro__ if kind in _REFUSALS), None)
    if known is None or isinstance(error, _OURS):
        _log.error("unforeseen error", exc_info=error)
        response = problem_of(ParleyError())
    else:
        status, code, detail = known
        _log.info("%s before there was a request: %s", status, type(error).__name__, extra={"status": status})
        record_request_begun()  # a failure of ours has been counted where it happened
        record_request("", None, status, 0)
        response = problem(status, code, detail)
    # Whoever has gone, or takes nothing in, is owed nothing more.
    with suppress(OSError), gevent.Timeout(_SECONDS, False):  # type: ignore[arg-type]  # False: just go on
        client.sendall(_on_the_wire(response, with_body=getattr(request, "method", "") != "HEAD"))
        _linger(client)


def _on_the_wire(response: Response, *, with_body: bool) -> bytes:
    response.headers.update({**HEADERS, "X-Request-ID": current_request_id(), "Connection": "close"})
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in response.headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (response.get_data() if with_body else b"")


def _linger(client: socket.socket) -> None:
    """Take in what is still being sent: closing over unread bytes would take the answer back as well."""
    client.shutdown(socket.SHUT_WR)
    left = _LINGER_BYTES
    while left > 0 and (piece := client.recv(65_536)):
        left -= len(piece)
