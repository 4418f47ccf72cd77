"""How large a request's body may be, whether its length is announced or it comes in chunks."""

import io
from typing import IO, Any

from flask import Flask, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from app.api.errors import problem_of
from app.errors import TooLarge


def init_app(flask_app: Flask, longest: int) -> None:
    """Refuse bodies of more than `longest` bytes, as soon as that is known."""
    flask_app.config.update(
        MAX_CONTENT_LENGTH=longest,  # what is announced to be longer is refused before any of it is read
        # Bytes, and fields; nothing here reads a form, so nobody need send a large one.
        MAX_FORM_MEMORY_SIZE=65_536,
        MAX_FORM_PARTS=20,
    )

    @flask_app.before_request
    def count_chunks() -> None:
        if request.content_length is None and "HTTP_TRANSFER_ENCODING" in request.environ:
            request.environ["wsgi.input"] = _Bounded(request.environ["wsgi.input"], longest)
            request.max_content_length = longest + 1  # so that Werkzeug's limit is not met before ours

    @flask_app.errorhandler(RequestEntityTooLarge)
    def too_large(_error: RequestEntityTooLarge) -> Response:
        return problem_of(TooLarge(f"The body is larger than {longest} bytes, the most that this server takes."))


class _Bounded(io.RawIOBase):
    """A body of unknown length, which may not have more than so many bytes.

    Werkzeug (3.1.9) cuts such a body off at its limit without a word: what was left of it would be taken for the whole.
    """

    def __init__(self, stream: IO[bytes], longest: int) -> None:
        self._stream = stream
        self._left = longest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(min(len(buffer), self._left + 1))
        self._left -= len(piece)
        if self._left < 0:
            raise RequestEntityTooLarge
        buffer[: len(piece)] = piece
        return len(piece)
