"""What every answer tells browsers and caches to refrain from, and whose word counts on where a request came from."""

import logging

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

# Each is only a default: a view that answers with a page sets a Content-Security-Policy of its own, and one whose
# answer may be kept its own Cache-Control.
HEADERS = {
    "Cache-Control": "no-store",  # nearly every answer is somebody's
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# For pages of ours whose scripts, styles and images come from this server and nowhere else.
PAGE_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HSTS = "max-age=31536000"  # seconds: a year, for this host; what its owner does with others of the domain is not ours

_log = logging.getLogger("parley.http")


def init_app(flask_app: Flask, trusted_proxies: int) -> None:
    """Set the headers, and believe the nearest `trusted_proxies` proxies, which is none for 0."""

    @flask_app.after_request
    def harden(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.is_secure:
            response.headers.setdefault("Strict-Transport-Security", HSTS)
        return response

    if trusted_proxies:
        # Each proxy appends the address that it sees to X-Forwarded-For, so the caller's is that many from the end.
        # The scheme is commonly passed on or replaced instead: the nearest proxy's word. Host, port and prefix are
        # used for nothing, so nobody is believed about them.
        flask_app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # what Flask's documentation says to do
            flask_app.wsgi_app, x_for=trusted_proxies, x_proto=1, x_host=0, x_port=0, x_prefix=0
        )
    else:
        _report_forwarding(flask_app)


def _report_forwarding(flask_app: Flask) -> None:
    """Say once per process that a proxy's headers are ignored: all callers then seem to have the proxy's address."""
    said = False

    @flask_app.before_request
    def look() -> None:
        nonlocal said
        if not said and "X-Forwarded-For" in request.headers:
            said = True
            _log.warning("X-Forwarded-For is ignored; behind a proxy, set TRUSTED_PROXIES to the number of proxies")
