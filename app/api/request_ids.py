"""Every request has an id, which its answer and its logs carry: the caller's `X-Request-ID` if that is a plain one."""

import logging
import re
import time

from flask import Flask, Response, g, request

from app.logs import request_id
from app.models.columns import new_id

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("parley.http")


def current_request_id() -> str:
    """The id of the request being handled; empty outside one."""
    return request_id.get()


def begin_request_id(sent: str) -> str:
    """Make `sent`, or a new id if that is no plain one, the id of the request that begins here, and return it."""
    request_id.set(sent if _PLAIN.fullmatch(sent) else new_id().hex)
    return request_id.get()


def init_app(flask_app: Flask) -> None:
    """Give each request its id and write one line about it when it has been answered."""

    @flask_app.before_request
    def begin() -> None:
        begin_request_id(request.headers.get("X-Request-ID", ""))
        g.started = time.perf_counter()

    @flask_app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = request_id.get()
        _log.info(
            "%s %s %s",
            request.method,
            # The route's template: a path may hold ids, and a mistyped one anything at all.
            request.url_rule.rule if request.url_rule else "(no route)",
            response.status_code,
            extra={
                "status": response.status_code,
                "milliseconds": round((time.perf_counter() - g.get("started", time.perf_counter())) * 1000, 1),
            },
        )
        return response
