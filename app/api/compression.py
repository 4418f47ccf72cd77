"""JSON answers go out gzipped to whoever accepts that.

Never a stream: its events would wait in the compressor. Never what holds a token or a key, which is all of /api/auth:
where a caller's own words stand in the same answer as a secret, the compressed size gives the secret away (BREACH).
"""

import gzip

from flask import Flask, Response, request

SMALLEST = 1024  # bytes; below, a packet is a packet
# Compressing holds up the other requests of the process, about ten milliseconds for this much; larger answers go plain.
LARGEST = 1_048_576
LEVEL = 1  # text shrinks to about a third already; further levels cost several times as much for a tenth more

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
            # Without a time in it: the same answer is the same bytes.
            response.set_data(gzip.compress(response.get_data(), LEVEL, mtime=0))
            response.headers["Content-Encoding"] = "gzip"
        return response


def _worth_it(response: Response) -> bool:
    return (
        response.mimetype in _TYPES
        and not response.is_streamed
        and not response.direct_passthrough
        and "Content-Encoding" not in response.headers
        and not request.path.startswith(_SECRETS)
        and SMALLEST <= (response.calculate_content_length() or 0) <= LARGEST
    )
