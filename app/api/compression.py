"""Gzip compression of JSON responses.

Streams are not compressed: their events would wait in the compressor. Responses of /api/auth are not compressed either,
because they contain tokens and keys: the compressed size of a secret together with a caller's input reveals the secret
(BREACH).
"""

import zlib
from functools import lru_cache

from flask import Flask, Response, request

SMALLEST = 1024  # bytes; a smaller response fits one packet anyway
LARGEST = 1_048_576  # bytes; takes about 10 ms, during which the process serves no other request
LEVEL = 1  # halves the text of a chat; higher levels cost several times as much and save a tenth more
# wbits and memLevel of zlib: gzip with an 8 KB window and little memory takes 17 µs for 2 KB. The defaults take 60 µs,
# most of it to allocate buffers that short responses do not fill.
_WINDOW, _MEMORY = 16 + 13, 6

_TYPES = {"application/json", "application/problem+json"}
_SECRETS = "/api/auth/"


def init_app(flask_app: Flask) -> None:
    """Compress responses of suitable type and size for clients that accept gzip."""

    @flask_app.after_request
    def compress(response: Response) -> Response:
        if not _is_compressible(response):
            return response
        response.vary.add("Accept-Encoding")
        if request.accept_encodings.quality("gzip") > 0:
            compress = _gzipped_document if "ETag" in response.headers else gzipped
            response.set_data(compress(response.get_data()))
            response.headers["Content-Encoding"] = "gzip"
        return response


def gzipped(data: bytes) -> bytes:
    """Compress `data` as gzip without a timestamp, so that equal responses have equal bytes."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
    return compressor.compress(data) + compressor.flush()


@lru_cache(maxsize=8)
def _gzipped_document(data: bytes) -> bytes:
    """Return `gzipped(data)` of one of the server's own documents, which need no authentication."""
    return gzipped(data)


def _is_compressible(response: Response) -> bool:
    return (
        response.mimetype in _TYPES
        and not response.is_streamed
        and not response.direct_passthrough
        and "Content-Encoding" not in response.headers
        and not request.path.startswith(_SECRETS)
        and SMALLEST <= (response.calculate_content_length() or 0) <= LARGEST
    )
