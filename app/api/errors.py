"""What each error is in HTTP: one `application/problem+json` shape (RFC 9457) for all of them.

The only place that pairs the error tree with status codes. What is not foreseen is logged with its traceback and
answered as a plain 500 without any of it.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
from flask import Flask, Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from app import errors
from app.api.request_ids import current_request_id
from app.database import is_passing

_log = logging.getLogger("parley.errors")

# The nearest class in the error's ancestry decides.
STATUS: dict[type[errors.ParleyError], int] = {
    errors.InvalidInput: 400,
    errors.TooLarge: 413,
    errors.TooSlow: 408,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.IdempotencyMismatch: 422,
    errors.LimitReached: 429,
    errors.Unavailable: 503,
    errors.ProviderError: 502,
    errors.ProviderTimedOut: 504,
    errors.ProviderOverloaded: 503,
    errors.ProviderCircuitOpen: 503,
    errors.ParleyError: 500,
}

_PERHAPS_SAVED = (
    "The connection to the database broke, so what you sent may have been saved or not: look before you send it again. "
    "A request that had an Idempotency-Key may be sent again with the same key."
)


def status_of(error: errors.ParleyError) -> int:
    """The HTTP status of `error`."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int,
    code: str,
    detail: str,
    fields: Mapping[str, Sequence[str]] | None = None,
    retry_after: int | None = None,
    about: Mapping[str, str] | None = None,
) -> Response:
    """The response for one problem; `retry_after` is in seconds."""
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
    response = Response(orjson.dumps(body), status, content_type="application/problem+json")
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_of(error: errors.ParleyError) -> Response:
    """The response for an error of ours."""
    return problem(status_of(error), error.code, error.detail, error.fields, error.retry_after, error.about)


def _database_error(error: DBAPIError) -> Response:
    if is_passing(error):
        state = getattr(error.orig, "pgcode", None)
        _log.warning("database unavailable: %s", type(error.orig).__name__, extra={"sqlstate": state})
        # A connection broke: PostgreSQL may have committed, and only its reply was lost.
        detail = _PERHAPS_SAVED if error.connection_invalidated else None
        return problem_of(errors.DatabaseUnavailable(detail, retry_after=1))
    return _unforeseen(error)


def _pool_timeout(error: PoolTimeout) -> Response:
    _log.warning("no database connection was free within the pool's timeout")
    return problem_of(errors.DatabaseUnavailable("All database connections are in use; try again.", retry_after=1))


def _http_error(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:  # a redirect is no problem
        return cast(Response, error.get_response())
    code = HTTP_STATUS_CODES.get(error.code, "error").lower().replace(" ", "_").replace("-", "_")
    response = problem(error.code, code, error.description or "")
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _unforeseen(error: Exception) -> Response:
    _log.error("unforeseen error", exc_info=error)
    return problem_of(errors.ParleyError())


def init_app(flask_app: Flask) -> None:
    """Answer every error as a problem."""
    flask_app.register_error_handler(errors.ParleyError, problem_of)
    flask_app.register_error_handler(HTTPException, _http_error)
    flask_app.register_error_handler(PoolTimeout, _pool_timeout)
    flask_app.register_error_handler(DBAPIError, _database_error)
    flask_app.register_error_handler(Exception, _unforeseen)
