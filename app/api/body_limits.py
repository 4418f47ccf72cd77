"""The size limit of request bodies, with Content-Length or chunked.

Bodies of MAX_BODY_BYTES are for callers whose credential was checked. Routes without authentication have a lower limit.
Chat reads the body before the database has checked the caller's API key, so a key that is not proven yet has one, too.
"""

import io
from typing import IO, Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from app.api.access import Access, proven_identity
from app.api.blueprint import Blueprint
from app.api.errors import problem_of
from app.errors import TooLarge

MAX_PUBLIC_BODY = 16 * 1024  # bytes, for routes without authentication and those below _SMALL
MAX_UNPROVEN_BODY = 256 * 1024  # bytes; a message takes at most 120 KB, as pairs of escaped surrogates
FORM_BYTES = 64 * 1024  # of a form around a file

_SMALL = "/api/auth/"


def init_app(flask_app: Flask, max_bytes: int, max_file_bytes: int) -> None:
    """Refuse request bodies of more than `max_bytes`, or of more than the limit of their route, with 413.

    `max_file_bytes` is the largest file that the routes of uploads accept.
    """
    flask_app.config.update(
        MAX_CONTENT_LENGTH=max_bytes,  # compared with Content-Length before the body is read
        MAX_FORM_MEMORY_SIZE=65_536,  # bytes; no view reads forms
        MAX_FORM_PARTS=20,
    )

    @flask_app.before_request
    def limit_body() -> None:
        limit = _limit(max_bytes, max_file_bytes)
        request.max_content_length = limit
        if request.content_length is None and "HTTP_TRANSFER_ENCODING" in request.environ:
            request.environ["wsgi.input"] = _LimitedBody(request.environ["wsgi.input"], limit)
            request.max_content_length = limit + 1  # above our limit: Werkzeug truncates at its own

    @flask_app.errorhandler(RequestEntityTooLarge)
    def too_large(_error: RequestEntityTooLarge) -> Response:
        limit = _limit(max_bytes, max_file_bytes)
        return problem_of(TooLarge(f"The body is larger than {limit} bytes, the limit of this request."))


def _limit(max_bytes: int, max_file_bytes: int) -> int:
    """Return the limit of the current request. No view reads the body of a request without a route."""
    blueprint = current_app.blueprints.get(request.blueprint or "")
    if isinstance(blueprint, Blueprint) and blueprint.uploads:
        return max_file_bytes + FORM_BYTES
    access = blueprint.access if isinstance(blueprint, Blueprint) else Access.PUBLIC
    if access in (Access.PUBLIC, Access.OPS) or request.path.startswith(_SMALL):
        return min(max_bytes, MAX_PUBLIC_BODY)
    if access is Access.TURN and proven_identity(access) is None:
        return min(max_bytes, MAX_UNPROVEN_BODY)
    return max_bytes


class _LimitedBody(io.RawIOBase):
    """A body of unknown length that raises `RequestEntityTooLarge` above the limit.

    Werkzeug (3.1.9) silently truncates a chunked body at its limit.
    """

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._stream.read(min(len(buffer), self._left + 1))
        self._left -= len(chunk)
        if self._left < 0:
            raise RequestEntityTooLarge
        buffer[: len(chunk)] = chunk
        return len(chunk)
