"""Browsers on other origins (WHATWG Fetch, "CORS protocol"): whose pages may call, and what of an answer they may see.

Only the origins of `CORS_ORIGINS` are named, exactly as they are written there. Cookies are never spoken of, because
Parley has none: a page sends its token itself, so even `*` gives nobody the standing of whoever is looking at it.
"""

import logging
from collections.abc import Collection

from flask import Flask, Response, request

from app.errors import NotAllowed

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID")
EXPOSED = (
    "Content-Disposition",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-ID",
)
MAX_AGE = 600  # seconds for which a browser need not ask again

_log = logging.getLogger("parley.http")


def init_app(flask_app: Flask, origins: Collection[str]) -> None:
    """Let pages of `origins` call; `*` alone means all of them, and none means none."""
    everybody = "*" in origins

    def permitted() -> bool:
        return everybody or request.headers.get("Origin") in origins

    @flask_app.before_request
    def answer_preflight() -> Response | None:
        asks = request.headers
        if request.method != "OPTIONS" or "Origin" not in asks or "Access-Control-Request-Method" not in asks:
            return None
        if not permitted():
            _log.info("a preflight was refused: CORS_ORIGINS does not name its origin %s", asks["Origin"][:200])
            raise NotAllowed("Pages of this origin may not call this server: CORS_ORIGINS does not name it.")
        # Of any path: a page that has mistyped one is to see the 404 of its request.
        return Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(METHODS),
                "Access-Control-Allow-Headers": ", ".join(REQUEST_HEADERS),
                "Access-Control-Max-Age": str(MAX_AGE),
            },
        )

    @flask_app.after_request
    def name_origin(response: Response) -> Response:
        if origins and not everybody:
            response.vary.add("Origin")  # whoever caches it must not tell one origin what another was told
        if "Origin" in request.headers and permitted():
            response.headers["Access-Control-Allow-Origin"] = "*" if everybody else request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)
        return response
