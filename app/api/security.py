"""Security headers of every response, no type of an empty one, and trust in the headers of proxies."""

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Defaults: a view that returns a page sets its own Content-Security-Policy, and one whose response may be cached its
# own Cache-Control.
HEADERS = {
    "Cache-Control": "no-store",  # almost every response is private to a user
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# For pages whose scripts, styles and images all come from this server.
PAGE_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HSTS = "max-age=31536000"  # one year, for this host only, not for its subdomains

# Path segments of characters that need no encoding; `//` would begin a host.
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+/?")

_log = logging.getLogger("parley.http")


def init_app(flask_app: Flask, trusted_proxies: int) -> None:
    """Add the headers to all responses, and trust the nearest `trusted_proxies` proxies."""

    @flask_app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.is_secure:
            response.headers.setdefault("Strict-Transport-Security", HSTS)
        if _has_no_body(response):
            response.headers.pop("Content-Type", None)  # Flask's default, which describes a body
        return response

    if trusted_proxies:
        # Each proxy appends its peer's address to X-Forwarded-For, so the caller's is the n-th from the end. Proxies
        # forward or replace the scheme and the prefix, so the nearest one's value counts. Host and port are not used.
        flask_app.wsgi_app = _without_invalid_prefix(  # type: ignore[method-assign, assignment]  # documented by Flask
            ProxyFix(flask_app.wsgi_app, x_for=trusted_proxies, x_proto=1, x_host=0, x_port=0, x_prefix=1)
        )
    else:
        _report_forwarding(flask_app)


def _has_no_body(response: Response) -> bool:
    """Return whether there is no body, as in answers to OPTIONS. A stream is not read, so it counts as a body."""
    return response.status_code in (204, 304) or (response.is_sequence and response.calculate_content_length() == 0)


def _without_invalid_prefix(application: "WSGIApplication") -> "WSGIApplication":
    """Ignore an X-Forwarded-Prefix that is no path: a proxy that does not set it forwards what the caller sent."""

    def check(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        nearest = environ.get("HTTP_X_FORWARDED_PREFIX", "").rpartition(",")[2].strip()
        if not _PREFIX.fullmatch(nearest):
            environ.pop("HTTP_X_FORWARDED_PREFIX", None)
        return application(environ, start_response)

    return check


def _report_forwarding(flask_app: Flask) -> None:
    """Warn once per process that a proxy's headers are ignored, so that all callers have the proxy's address."""
    warned = False

    @flask_app.before_request
    def warn_once() -> None:
        nonlocal warned
        if not warned and "X-Forwarded-For" in request.headers:
            warned = True
            _log.warning("X-Forwarded-For is ignored; behind a proxy, set TRUSTED_PROXIES to the number of proxies")
