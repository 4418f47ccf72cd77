"""JSON answers go out gzipped to whoever accepts that.

Never a stream: its events would wait in the compressor. Never what holds a token or a key, which is all of /api/auth:
where a caller's own words stand in the same answer as a secret, the compressed size gives the secret away (BREACH).
"""

import zlib

from flask import Flask, Response, request

SMALLEST = 1024  # bytes; below, a packet is a packet
# Compressing holds up the other requests of the process, about ten milliseconds for this much; larger answers go plain.
LARGEST = 1_048_576
LEVEL = 1  # half of a chat's text is saved already; further levels cost several times as much for a tenth more
# An 8 KB window and little memory, as gzip: 17 microseconds for an answer of 2 KB, where zlib's defaults take 60, most
# of it to set up what a short text never fills.
_WINDOW, _MEMORY = 16 + 13, 6

_TYPES = {"application/json", "application/problem+json"}
_SECRETS = "/api/auth/"


def init_app(flask_app: Flask) -> None:
    """Compress what is worth it."""

    @flask_app.after_request
    def compress(response: Response) -> Response:
        if not _worth_it(response):
            return response
        response.vary.add("Accept-Encoding")
        if request.accept_encodings.quality("gzip") > 0:
            response.set_data(gzipped(response.get_data()))
            response.headers["Content-Encoding"] = "gzip"
        return response


def gzipped(data: bytes) -> bytes:
    """`data` as gzip. No time is in it, so the same answer is the same bytes."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
    return packer.compress(data) + packer.flush()


def _worth_it(response: Response) -> bool:
    return (
        response.mimetype in _TYPES
        and not response.is_streamed
        and not response.direct_passthrough
        and "Content-Encoding" not in response.headers
        and not request.path.startswith(_SECRETS)
        and SMALLEST <= (response.calculate_content_length() or 0) <= LARGEST
    )
