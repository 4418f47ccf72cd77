"""Responses that stream a file while it is created."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from flask import Response

ATTACHMENT = {"Content-Disposition": {"description": "File name.", "schema": {"type": "string"}}}
_ZIP = "application/zip"
# Arguments of `Blueprint.response` for views that return such a file.
ZIP: dict[str, Any] = {
    "schema": {"type": "string", "format": "binary"},
    "content_type": _ZIP,
    "description": "The file. If an error occurs while it is sent, the connection is closed and the file is truncated.",
    "headers": ATTACHMENT,
}
MARKDOWN: dict[str, Any] = {
    "schema": {"type": "string"},
    "content_type": "text/markdown",
    "description": "The document. If an error occurs while it is sent, the connection is closed and it is truncated.",
    "headers": ATTACHMENT,
}


def streamed(chunks: Iterator[bytes], filename: str, content_type: str = _ZIP) -> Response:
    """Return a response that streams `chunks` as a file.

    The first chunk is created now, so that an error before it has a regular error response. A later error closes the
    connection, so that clients notice a truncated file.
    """
    return Response(
        _chain(next(chunks), chunks),
        content_type=content_type,
        headers=attachment(filename),
    )


def attachment(filename: str) -> dict[str, str]:
    """Return the header Content-Disposition for a file name in any script (RFC 6266).

    A name outside of ASCII is in `filename*`, as UTF-8 (RFC 5987); `filename` is a replacement for old clients.
    """
    ascii_name = _ascii_name(filename)
    header = f'attachment; filename="{ascii_name}"'
    if ascii_name != filename:
        header += f"; filename*=UTF-8''{quote(filename, safe='')}"
    return {"Content-Disposition": header}


def _ascii_name(filename: str) -> str:
    stem, dot, extension = filename.rpartition(".")
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-")
    return f"{slug or 'file'}{dot}{extension}"


def _chain(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield all chunks; unlike `itertools.chain`, closing it closes `chunks`, which happens when the client leaves."""
    yield first
    yield from chunks
