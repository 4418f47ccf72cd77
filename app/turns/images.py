"""The images of a turn, read from the store, within the limits of one message, of its user and of the process."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from app.config import Files
from app.errors import ParleyError
from app.providers.file_parts import Image
from app.services.shares import Shares
from app.storage.base import Store
from app.storage.errors import StorageError

# Turns that may hold the largest images at once: of a process, and of one user in it. Further images are left out.
TURNS_AT_ONCE = 20
TURNS_OF_USER = 2

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
        largest = settings.max_image_bytes
        self._memory = Shares(TURNS_AT_ONCE * largest, TURNS_OF_USER * largest)

    @contextmanager
    def load(self, user_id: UUID, wanted: Iterable[StoredImage]) -> Iterator[LoadedImages]:
        """Yield the images of a user, read in this order. Their memory counts as used until the block ends."""
        loaded, left_out, held = list[Image](), dict[str, str](), 0
        try:
            for image in wanted:
                if len(loaded) == self._settings.max_images or held + image.bytes > self._settings.max_image_bytes:
                    left_out[image.id] = "limit"
                elif not self._memory.take(user_id, image.bytes):
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
            self._memory.release(user_id, held)

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
