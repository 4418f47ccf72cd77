"""Metrics of each request, from its arrival to the end of its response, a failed or aborted one included.

This is a WSGI middleware, because a stream continues after Flask's hooks have run: it ends when the server calls
`close`, which it does in every case.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask, Request

from app.metrics.http import record_request, record_request_begun

if TYPE_CHECKING:  # these exist for type checkers only
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def init_app(flask_app: Flask) -> None:
    """Measure all requests of `flask_app`, including the middleware added before."""
    flask_app.wsgi_app = _MeasuringMiddleware(flask_app.wsgi_app)  # type: ignore[method-assign]  # documented by Flask


class _MeasuringMiddleware:
    def __init__(self, inner: "WSGIApplication") -> None:
        self._inner = inner

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = _MeasuredRequest(environ, start_response)
        try:
            request.body = self._inner(environ, request.start_response)
        except BaseException:
            request.end()
            raise
        return request


class _MeasuredRequest:
    """The unchanged response body; its `close` ends the request."""

    __slots__ = ("_begun", "_ended", "_environ", "_forward", "_route", "_status", "body")

    def __init__(self, environ: "WSGIEnvironment", forward: "StartResponse") -> None:
        self._environ, self._forward = environ, forward
        self._status = "500"  # sent by the server if the application fails
        self.body: Iterable[bytes] = ()
        self._route: str | None = None
        self._ended = False
        self._begun = time.perf_counter()
        record_request_begun()

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Store status and route, because Flask discards the request before the body ends, and call the server's."""
        self._status = status
        request: Request | None = self._environ.get("werkzeug.request")
        if request is not None and request.url_rule is not None:
            self._route = request.url_rule.rule
        return self._forward(status, headers, exc_info) if exc_info else self._forward(status, headers)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.body)  # the server iterates the body itself, so measuring adds no cost per chunk

    def close(self) -> None:
        try:
            if hasattr(self.body, "close"):
                self.body.close()
        finally:
            self.end()

    def end(self) -> None:
        if self._ended:  # a server may call `close` twice
            return
        self._ended = True
        seconds = time.perf_counter() - self._begun
        record_request(self._environ["REQUEST_METHOD"], self._route, int(self._status[:3]), seconds)
