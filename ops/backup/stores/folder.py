"""A store in a folder: files for nobody else's eyes, written beside under a hidden name and then renamed."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ops.backup.errors import Damaged, StoreFailed
from ops.backup.stores.base import CHUNK, Entry, Store

_PARTIAL = ".partial"


class Folder(Store):
    """A folder that exists: one that is missing is not made, because it may be on a disk that is not mounted yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = f"file://{folder}"

    def entries(self) -> list[Entry]:
        with self._explained():
            found = []
            for path in self.folder.iterdir():
                with suppress(FileNotFoundError):  # pruned meanwhile
                    if not path.name.startswith(".") and path.is_file():
                        status = path.stat()
                        found.append(Entry(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)))
            return found

    @contextmanager
    def writing(self, name: str) -> Iterator["_FileWriter"]:
        draft = self.folder / f".{name}{_PARTIAL}"
        writer = self._begin(name, draft)
        try:
            try:
                yield writer
                with self._explained():
                    writer.settle()
            finally:
                os.close(writer.descriptor)
            with self._explained():
                draft.rename(self.folder / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        with self._explained():
            self._settle_folder()

    def _begin(self, name: str, draft: Path) -> "_FileWriter":
        with self._explained():
            if (self.folder / name).exists():
                raise StoreFailed(f"{self.place} holds a file called {name} already; nothing was overwritten.")
            return _FileWriter(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), self._explained)

    def reading(self, name: str) -> Iterator[bytes]:
        with self._explained():
            try:
                file = (self.folder / name).open("rb")
            except FileNotFoundError:
                raise Damaged(f"{self.place} holds no file called {name}.") from None
            with file:
                while piece := file.read(CHUNK):
                    yield piece

    def remove(self, name: str) -> None:
        with self._explained():
            (self.folder / name).unlink(missing_ok=True)

    def tidy(self, prefix: str, suffixes: Sequence[str]) -> int:
        removed = 0
        with self._explained():
            for suffix in suffixes:
                for path in self.folder.glob(f".{prefix}*{suffix}{_PARTIAL}"):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _settle_folder(self) -> None:
        """So that the new name outlasts a crash of the machine."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            advice = (
                "make the folder, or mount the disk it is on"
                if isinstance(error, FileNotFoundError)
                else ("give this user the folder, make room, or set BACKUP_URL to another place")
            )
            raise StoreFailed(f"The backups' folder {self.folder} cannot be used ({reason}): {advice}.") from error


class _FileWriter:
    def __init__(self, descriptor: int, explained: Callable[[], AbstractContextManager[None]]) -> None:
        self.descriptor = descriptor
        self._explained = explained

    def write(self, piece: bytes) -> None:
        view = memoryview(piece)
        with self._explained():
            while view:  # a full disk may take a part
                view = view[os.write(self.descriptor, view) :]

    def settle(self) -> None:
        """On the disk, and no longer in memory: who reads it back is to read the disk."""
        os.fsync(self.descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
