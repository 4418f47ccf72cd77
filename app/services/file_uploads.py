"""Uploads of files: a stream of bytes becomes an object of the store and a row, or nothing.

The object is written first, under a name that nothing else uses. Only then a short transaction stores the row. If the
process ends between the two, the object is unknown, and a job deletes it later.
"""

import errno
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from uuid import UUID

from app.bounds import INTEGER_MAX
from app.config import Settings
from app.errors import FileStoreUnavailable, InvalidInput, StorageFull, TooLarge, TooManyFiles
from app.ids import new_id
from app.models import File
from app.services import files
from app.services.file_names import checked_name
from app.services.file_store import open_file_store
from app.services.file_types import HEAD_BYTES, TextProbe, has_text, media_type_of
from app.services.files import FileLimits, StoredContent
from app.services.slots import Slots
from app.services.storage_room import StorageRoom
from app.storage.base import Store
from app.storage.errors import StorageError

AT_ONCE = 4  # uploads of one user in one process: each takes a connection and a buffer

_log = logging.getLogger("parley.files")


class FileUploads:
    """The uploads of one process. Thread-safe."""

    def __init__(self, settings: Settings, room: StorageRoom, request_extraction: Callable[[], None]) -> None:
        self._settings, self._room, self._request_extraction = settings, room, request_extraction
        self._slots = Slots(INTEGER_MAX, AT_ONCE)
        self._limits = FileLimits(settings.chat.user_max_bytes, settings.files.max_per_user)

    @cached_property
    def store(self) -> Store:
        """The store of files. Raises `FileStoreUnavailable`."""
        with translated_errors():
            return open_file_store(self._settings)

    def receive(
        self,
        user_id: UUID,
        chunks: Iterator[bytes],
        *,
        name: str,
        project_id: UUID | None = None,
        expected: int = 0,
        once: bool = False,
    ) -> tuple[File, bool]:
        """Store a file and return it, and whether it is new. `expected` are the bytes that the caller announced.

        `once` is as for `files.add`. What `chunks` raises passes through; nothing is stored then. Raises `InvalidInput`
        for the name and an empty file, `UnsupportedFile`, `TooLarge`, `NotFound` for the project, `TooManyFiles`,
        `StorageLimitReached`, `StorageFull` and `FileStoreUnavailable`.
        """
        name = checked_name(name)
        self._room.check()
        files.check_limits(user_id, self._limits, expected)
        with self._slot(user_id):
            content, media_type = self._write(chunks, name)
            object_ = None
            try:
                file, object_, is_new = files.add(
                    user_id,
                    content,
                    self._limits,
                    name=name,
                    media_type=media_type,
                    project_id=project_id,
                    once=once,
                )
            finally:
                if object_ != content.object:
                    self._discard(content.object)
        if is_new and has_text(media_type) and self._settings.files.extract:
            self._request_extraction()
        return file, is_new

    def _write(self, chunks: Iterator[bytes], name: str) -> tuple[StoredContent, str]:
        """Write a new object; return it and its media type."""
        object_, head, size = new_id().hex, bytearray(), 0
        digest, probe = hashlib.sha256(), TextProbe()
        with translated_errors(), self.store.create(object_) as writer:
            for chunk in chunks:
                size += len(chunk)
                if size > self._settings.files.max_file_bytes:
                    raise TooLarge(f"The file is larger than {self._settings.files.max_file_bytes} bytes.")
                if len(head) < HEAD_BYTES:
                    head += chunk[: HEAD_BYTES - len(head)]
                digest.update(chunk)
                probe.add(chunk)
                writer.write(chunk)
            if not size:
                raise InvalidInput(fields={"file": ["The file is empty."]})
            media_type = media_type_of(bytes(head), name, is_text=probe.ends_as_text())
        return StoredContent(object_, size, digest.hexdigest()), media_type

    def _discard(self, object_: str) -> None:
        """Delete an object that no row refers to. If that fails, a job does it."""
        with suppress(StorageError):
            self.store.delete(object_)

    @contextmanager
    def _slot(self, user_id: UUID) -> Iterator[None]:
        key = str(user_id)
        self._slots.take(key, full=_too_many, full_for_key=_too_many)
        try:
            yield
        finally:
            self._slots.release(key)


def _too_many() -> TooManyFiles:
    return TooManyFiles(f"You are uploading {AT_ONCE} files already; wait until one is complete.", retry_after=1)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of the store to those that a caller sees; their reasons, which name hosts, are logged."""
    try:
        yield
    except StorageError as error:
        _log.error("the store of files failed: %s", error.detail)
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "The store of files has no room, so nothing was saved; an operator must make room."
            ) from None
        raise FileStoreUnavailable(retry_after=5) from None
