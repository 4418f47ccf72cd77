"""HTTP responses of all errors, as `application/problem+json` (RFC 9457).

Only this module maps the error tree to status codes. An unexpected error is logged with its traceback, which the 500
response does not contain.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Flask, Response, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import RequestRedirect

from app import errors
from app.api.request_ids import current_request_id
from app.database import is_transient, sqlstate
from app.encoding import encode_json
from app.lock_waits import locked_object, waited_for_lock

_log = logging.getLogger("parley.errors")

# The first class in the error's MRO decides.
STATUS: dict[type[errors.ParleyError], int] = {
    errors.InvalidInput: 400,
    errors.TooLarge: 413,
    errors.BodyTimeout: 408,
    errors.UnsupportedFile: 415,
    errors.NotAuthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.IdempotencyMismatch: 422,
    errors.LimitReached: 429,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
    errors.ProviderError: 502,
    errors.ProviderTimedOut: 504,
    errors.ProviderOverloaded: 503,
    errors.ProviderCircuitOpen: 503,
    errors.ParleyError: 500,
}

_POSSIBLY_SAVED = (
    "The connection to the database broke, so the request may or may not have been saved: check before you repeat it. "
    "A request with an Idempotency-Key can be repeated with the same key."
)


def status_of(error: errors.ParleyError) -> int:
    """Return the HTTP status of `error`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int,
    code: str,
    detail: str,
    fields: Mapping[str, Sequence[str]] | None = None,
    retry_after: int | None = None,
    about: Mapping[str, str] | None = None,
) -> Response:
    """Build the response of one problem; `retry_after` is in seconds."""
    body: dict[str, Any] = {
        "type": f"urn:parley:problem:{code}",
        "title": HTTP_STATUS_CODES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": current_request_id(),
        **(about or {}),
    }
    if fields:
        body["errors"] = fields
    response = Response(encode_json(body), status, content_type="application/problem+json")
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_of(error: errors.ParleyError) -> Response:
    """Build the response of an error."""
    return problem(status_of(error), error.code, error.detail, error.fields, error.retry_after, error.about)


def _database_error(error: DBAPIError) -> Response:
    if waited_for_lock(error):
        noun = locked_object(error)
        _log.warning("a statement waited too long for a lock", extra={"sqlstate": sqlstate(error), "locked": noun})
        return problem_of(errors.Locked.of(noun))
    if is_transient(error):
        state = sqlstate(error)
        _log.warning("database unavailable: %s", type(error.orig).__name__, extra={"sqlstate": state})
        # If the connection broke, PostgreSQL may have committed before its reply was lost.
        detail = _POSSIBLY_SAVED if error.connection_invalidated else None
        return problem_of(errors.DatabaseUnavailable(detail, retry_after=1))
    return _unexpected(error)


def _pool_timeout(error: PoolTimeout) -> Response:
    _log.warning("no database connection was free within the pool's timeout")
    return problem_of(errors.DatabaseUnavailable("All database connections are in use; try again.", retry_after=1))


def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:  # a response that a view has raised
        return cast(Response, error.get_response())
    code = HTTP_STATUS_CODES.get(error.code, "error").lower().replace(" ", "_").replace("-", "_")
    response = problem(error.code, code, error.description or "")
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _redirect() -> Response | None:
    """Return the response for a path that the router has in another spelling, which Flask passes to no error handler.

    The router makes an absolute URL with the host that the request names. The Location is a path only (RFC 9110,
    section 10.2.2), so that no caller can be sent to another host.
    """
    error = request.routing_exception
    if not isinstance(error, RequestRedirect):
        return None
    url = urlsplit(error.new_url)
    response = problem(error.code, "permanent_redirect", "This path has another spelling, which is in Location.")
    response.headers["Location"] = "/" + url.path.lstrip("/") + (f"?{url.query}" if url.query else "")
    return response


def _unexpected(error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error)
    return problem_of(errors.ParleyError())


def init_app(flask_app: Flask) -> None:
    """Render every error as problem+json."""
    flask_app.register_error_handler(errors.ParleyError, problem_of)
    flask_app.register_error_handler(HTTPException, _http_error)
    flask_app.register_error_handler(PoolTimeout, _pool_timeout)
    flask_app.register_error_handler(DBAPIError, _database_error)
    flask_app.register_error_handler(Exception, _unexpected)
    flask_app.before_request(_redirect)
