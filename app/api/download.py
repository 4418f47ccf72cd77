"""Files that are made while they are sent."""

from collections.abc import Iterator
from typing import Any

from flask import Response

ATTACHMENT = {"Content-Disposition": {"description": "A name for the file.", "schema": {"type": "string"}}}
_ZIP = "application/zip"
# What a view that gives one declares, for `Blueprint.response`.
ZIP: dict[str, Any] = {
    "schema": {"type": "string", "format": "binary"},
    "content_type": _ZIP,
    "description": "The file. One that ends early is cut off, and no program opens it as a whole one.",
    "headers": ATTACHMENT,
}


MARKDOWN: dict[str, Any] = {
    "schema": {"type": "string"},
    "content_type": "text/markdown; charset=utf-8",
    "description": "The document. One that ends early is cut off, not complete.",
    "headers": ATTACHMENT,
}


def streamed(pieces: Iterator[bytes], filename: str, content_type: str = _ZIP) -> Response:
    """The file's pieces as they come.

    The first one is made now: what fails before it is answered as the error that it is. What fails later cuts the
    connection, because the server meets an exception, so that nobody takes a part for the whole.
    """
    return Response(
        _after(next(pieces), pieces),
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )


def _after(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Unlike a chain, it ends the pieces when the receiver has left."""
    yield first
    yield from pieces
