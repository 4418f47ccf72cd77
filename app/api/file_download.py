"""Downloads of stored files, whole or one range of bytes."""

import io
from collections.abc import Iterator
from typing import Any

from flask import Response, request
from werkzeug.wsgi import FileWrapper

from app.api.download import attachment
from app.models import File
from app.services.file_uploads import translated_errors
from app.storage.base import Store

_BUFFER = 256 * 1024  # bytes of a piece of the response
# Types that a browser would run if it showed them.
_ACTIVE = {"text/html"}


class StoredObject(io.RawIOBase):
    """An object of a store as a file that can be read from any position on. The store is asked at the first read."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        self._position = 0
        self._chunks: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        position = max(0, start + offset)
        if position != self._position:
            self._position, self._chunks, self._rest = position, None, memoryview(b"")
        return position

    def readinto(self, buffer: Any) -> int:
        with translated_errors():
            if self._chunks is None:
                self._chunks = self._store.read(self._name, self._position)
            if not self._rest:
                self._rest = memoryview(next(self._chunks, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._position += count
        return count


def file_response(store: Store, object_: str, file: File) -> Response:
    """Return the response with a file's content, or with the range that the request asks for.

    It is always an attachment, and a browser that opens it nevertheless runs nothing. Raises `FileStoreUnavailable`
    if the store has no first byte to give.
    """
    content = StoredObject(store, object_, file.bytes)
    media_type = "application/octet-stream" if file.media_type in _ACTIVE else file.media_type
    response = Response(
        FileWrapper(content, _BUFFER),  # type: ignore[arg-type]  # it needs read and seek only
        content_type=f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type,
        headers={
            **attachment(file.name),
            "Content-Length": str(file.bytes),
            "Content-Security-Policy": "sandbox; default-src 'none'",
            "X-Content-Type-Options": "nosniff",
        },
        direct_passthrough=True,
    )
    response.set_etag(file.sha256)
    response.make_conditional(request, accept_ranges=True, complete_length=file.bytes)
    if request.method == "GET" and response.status_code in (200, 206):
        content.seek(response.content_range.start or 0)
        content.readinto(bytearray(0))  # asks the store now, so that its error has a regular response
    return response
