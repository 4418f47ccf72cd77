"""Bodies of gunicorn's requests: chunks that are too small, and bodies that the application has not read.

gunicorn reads each chunk in Python, which takes 6 us however small it is, and it reads what the application has left of
a body, however large it is. Both would let a request occupy a worker that the application refuses.
"""

import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import gevent
from gunicorn.http.body import ChunkedReader, LengthReader  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]

from app.outbound.yielding import Yielder

FREE_CHUNKS = 256  # of any size
MIN_CHUNK = 64  # bytes of all further chunks on average
MAX_DRAINED = 65_536  # bytes of an unread body that are read to keep the connection
MAX_DISCARDED = 1_048_576  # bytes that are read and discarded before the connection is closed
DISCARD_SECONDS = 1.0
_SLICE_SECONDS = 0.002


class TooSmallChunks(ParseException):  # type: ignore[misc]
    """A body in chunks of a few bytes each."""


def limit_chunks(request: Any) -> None:
    """Make reading the chunked body of `request` raise `TooSmallChunks`. Other greenlets run after each slice."""
    reader = request.body.reader
    if isinstance(reader, ChunkedReader):
        reader.parser = _checked(reader.parser)


def is_read(request: Any) -> bool:
    """Return whether the body of `request` was read, up to a rest of `MAX_DRAINED` bytes that gunicorn may read."""
    body = request.body
    if body.failed:
        return False
    if isinstance(body.reader, ChunkedReader):
        return body.reader.parser is None
    return not isinstance(body.reader, LengthReader) or body.reader.length <= MAX_DRAINED


def close_if_unread(request: Any) -> None:
    """Make gunicorn send `Connection: close` with a response before which the body of `request` was not read.

    The client would otherwise send its next request over a connection that is being closed.
    """
    should_close = request.should_close
    request.should_close = lambda: should_close() or not is_read(request)


def discard_input(client: socket.socket) -> None:
    """Read what the client still sends: closing with unread data would reset the connection and drop the response."""
    with suppress(OSError), gevent.Timeout(DISCARD_SECONDS, False):  # type: ignore[arg-type]  # False: no exception
        client.shutdown(socket.SHUT_WR)
        remaining = MAX_DISCARDED
        while remaining > 0 and (data := client.recv(65_536)):
            remaining -= len(data)


def _checked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    count = size = 0
    yielder = Yielder(_SLICE_SECONDS)
    for piece in pieces:
        if piece:
            count, size = count + 1, size + len(piece)
            if count > FREE_CHUNKS and size < count * MIN_CHUNK:
                raise TooSmallChunks
            yielder.step()
        yield piece
