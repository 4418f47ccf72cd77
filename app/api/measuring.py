"""Counts every request, whatever becomes of it: answered, failed, or left by its client in the midst of a stream.

This stands around the whole WSGI application, because only there a request has one beginning and one end: a stream goes
on after Flask's own hooks have run, and its end is the server's call of `close`, which comes however it ends.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask, Request

from app.metrics.http import record_request, record_request_begun

if TYPE_CHECKING:  # these exist for type checkers only
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def init_app(flask_app: Flask) -> None:
    """Measure all requests of `flask_app` from now on, with whatever stands around it already."""
    flask_app.wsgi_app = _Measured(flask_app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way


class _Measured:
    def __init__(self, inner: "WSGIApplication") -> None:
        self._inner = inner

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = _OneRequest(environ)

        def started(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            request.answer(status)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        try:
            request.body = self._inner(environ, started)
        except BaseException:
            request.end()
            raise
        return request


class _OneRequest:
    """The answer's body, passed on as it is; its `close` is the end of the request."""

    def __init__(self, environ: "WSGIEnvironment") -> None:
        self._status = 500  # what the server answers when the application does not
        self.body: Iterable[bytes] = ()
        self._environ = environ
        self._route: str | None = None
        self._ended = False
        self._begun = time.perf_counter()
        record_request_begun()

    def answer(self, status: str) -> None:
        """The answer begins. Now Flask still knows the route; when the body ends it has put the request away."""
        self._status = int(status[:3])
        request: Request | None = self._environ.get("werkzeug.request")
        if request is not None and request.url_rule is not None:
            self._route = request.url_rule.rule

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.body)  # the server reads from the body itself: a stream pays nothing for being measured

    def close(self) -> None:
        try:
            if hasattr(self.body, "close"):
                self.body.close()
        finally:
            self.end()

    def end(self) -> None:
        if self._ended:  # a server may close twice
            return
        self._ended = True
        seconds = time.perf_counter() - self._begun
        record_request(self._environ["REQUEST_METHOD"], self._route, self._status, seconds)
