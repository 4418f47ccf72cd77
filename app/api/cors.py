"""CORS (WHATWG Fetch): the origins whose pages may call the API, and the response headers that they may read.

Origins are compared with `CORS_ORIGINS` literally. Credentials are never allowed, because there are no cookies: a page
sends its token itself, so even `*` gives a page no access in the name of its visitor.
"""

import logging
from collections.abc import Collection, Iterable

from flask import Flask, Response, request

from app.errors import PermissionDenied

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "MCP-Protocol-Version",
    "Mcp-Method",
    "Mcp-Name",
    "X-Request-ID",
    "traceparent",  # these three: W3C Trace Context and Baggage, which OpenTelemetry adds to the requests of a page
    "tracestate",
    "baggage",
)
EXPOSED = (
    "Content-Disposition",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-ID",
)
MAX_AGE = 600  # seconds for which a browser caches the preflight

_log = logging.getLogger("parley.http")


def init_app(flask_app: Flask, origins: Collection[str], headers: Iterable[str] = ()) -> None:
    """Allow pages of `origins` to call the API; `*` allows all origins, an empty collection allows none.

    `headers` are request headers that the pages may send besides `REQUEST_HEADERS`.
    """
    request_headers = ", ".join((*REQUEST_HEADERS, *headers))
    allow_all = "*" in origins

    def permitted() -> bool:
        return allow_all or request.headers.get("Origin") in origins

    @flask_app.before_request
    def answer_preflight() -> Response | None:
        headers = request.headers
        if request.method != "OPTIONS" or "Origin" not in headers or "Access-Control-Request-Method" not in headers:
            return None
        if not permitted():
            _log.info("preflight refused: CORS_ORIGINS does not contain the origin %s", headers["Origin"][:200])
            raise PermissionDenied("Pages of this origin may not call this server: CORS_ORIGINS does not contain it.")
        # Also for unknown paths, so that the page sees the 404 of its request.
        return Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(METHODS),
                "Access-Control-Allow-Headers": request_headers,
                "Access-Control-Max-Age": str(MAX_AGE),
            },
        )

    @flask_app.after_request
    def name_origin(response: Response) -> Response:
        if origins and not allow_all:
            response.vary.add("Origin")  # caches must not serve one origin's response to another
        if "Origin" in request.headers and permitted():
            response.headers["Access-Control-Allow-Origin"] = "*" if allow_all else request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
        return response
