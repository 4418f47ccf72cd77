"""The images of a turn, read from the store, within the limits of one message and of the process."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from app.config import Files
from app.errors import ParleyError
from app.providers.file_parts import Image
from app.storage.base import Store
from app.storage.errors import StorageError

TURNS_AT_ONCE = 10  # turns of a process that may hold the largest images; further images are left out

_log = logging.getLogger("parley.files")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the store of files."""

    id: str
    name: str
    media_type: str
    bytes: int
    object: str


@dataclass(frozen=True, slots=True)
class LoadedImages:
    """The images that the model gets, and the reasons for the others, by their ids."""

    images: Sequence[Image]
    left_out: dict[str, str]


class ImageLoader:
    """Reads images for the turns of one process. Thread-safe."""

    def __init__(self, settings: Files, open_store: Callable[[], Store]) -> None:
        self._settings, self._open_store = settings, open_store
        self._free = TURNS_AT_ONCE * settings.max_image_bytes
        self._lock = Lock()

    @contextmanager
    def load(self, wanted: Iterable[StoredImage]) -> Iterator[LoadedImages]:
        """Yield the images, read in this order. Their memory counts as used until the block ends."""
        loaded, left_out, held = list[Image](), dict[str, str](), 0
        try:
            for image in wanted:
                if len(loaded) == self._settings.max_images or held + image.bytes > self._settings.max_image_bytes:
                    left_out[image.id] = "limit"
                elif not self._take(image.bytes):
                    left_out[image.id] = "busy"
                else:
                    held += image.bytes
                    data = self._read(image)
                    if data is None:
                        left_out[image.id] = "unavailable"
                    else:
                        loaded.append(Image(image.name, image.media_type, data))
            yield LoadedImages(loaded, left_out)
        finally:
            with self._lock:
                self._free += held

    def _take(self, count: int) -> bool:
        with self._lock:
            if count > self._free:
                return False
            self._free -= count
            return True

    def _read(self, image: StoredImage) -> bytes | None:
        """Return the content; None if the store cannot give it. The store reads in native threads."""
        data = bytearray()
        try:
            for chunk in self._open_store().read(image.object):
                data += chunk
                if len(data) > image.bytes:
                    break
        except (StorageError, ParleyError) as error:
            _log.warning("an image could not be read: %s", type(error).__name__, extra={"file_id": image.id})
            return None
        return bytes(data) if len(data) == image.bytes else None
