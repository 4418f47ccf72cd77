"""A store in a folder. Files are written under a hidden name, with mode 0600, and then renamed.

Disks block a thread and not only a greenlet, so native threads read and write.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from app.outbound.native_threads import in_native_thread
from app.storage.base import CHUNK, Store, StoredFile
from app.storage.errors import FileNotFoundInStorage, StorageUnavailable

_PARTIAL = ".partial"


class FolderStore(Store):
    """A store in an existing folder. It does not create the folder, because its disk may not be mounted yet.

    `setting` is the name of the setting that chose the folder, for error messages. A folder `inside` another one is
    created with its first file.
    """

    def __init__(self, folder: Path, *, setting: str, inside: Path | None = None) -> None:
        self.folder = folder
        self.url = f"file://{folder}"
        self._setting, self._inside = setting, inside

    def below(self, name: str) -> "FolderStore":
        return FolderStore(self.folder / name, setting=self._setting, inside=self.folder)

    def iterate_files(self) -> Iterator[StoredFile]:
        with self._translate_errors():
            if self._is_absent():
                return
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # deleted by another process since it was listed
                        if not entry.name.startswith(".") and entry.is_file():
                            status = entry.stat()
                            stored_at = datetime.fromtimestamp(status.st_mtime, UTC)
                            found = StoredFile(entry.name, status.st_size, stored_at)
                            yield found

    @contextmanager
    def create(self, name: str) -> Iterator["_FolderFileWriter"]:
        draft = self.folder / f".{name}{_PARTIAL}"
        writer = self._open_draft(name, draft)
        try:
            try:
                yield writer
                with self._translate_errors():
                    in_native_thread(writer.sync)
            finally:
                os.close(writer.descriptor)
            with self._translate_errors():
                draft.rename(self.folder / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        with self._translate_errors():
            self._sync_folder()

    def _open_draft(self, name: str, draft: Path) -> "_FolderFileWriter":
        with self._translate_errors():
            if self._is_absent():
                self.folder.mkdir(mode=0o700, exist_ok=True)
            if (self.folder / name).exists():
                raise StorageUnavailable(f"{self.url} already holds a file called {name}; nothing was overwritten.")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            return _FolderFileWriter(descriptor, self._translate_errors)

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        with self._translate_errors():
            try:
                file = (self.folder / name).open("rb")
            except FileNotFoundError:
                if not self.folder.is_dir():
                    raise
                raise FileNotFoundInStorage(f"{self.url} holds no file called {name}.") from None
            with file:
                if start:
                    file.seek(start)
                while chunk := in_native_thread(file.read, CHUNK):
                    yield chunk

    def delete(self, name: str) -> None:
        with self._translate_errors():
            try:
                (self.folder / name).unlink()
            except FileNotFoundError:
                if not self._is_absent():
                    self.folder.stat()  # a folder that is missing does not mean that the file is

    def delete_unfinished(self, prefix: str, suffixes: Sequence[str] = ("",)) -> int:
        count = 0
        with self._translate_errors():
            for suffix in suffixes:
                for path in self.folder.glob(f".{prefix}*{suffix}{_PARTIAL}"):
                    path.unlink(missing_ok=True)
                    count += 1
        return count

    def delete_abandoned(self, names: re.Pattern[str], before: datetime) -> int:
        count = 0
        with self._translate_errors():
            for path in self.folder.glob(f".*{_PARTIAL}"):
                if names.fullmatch(path.name.removesuffix(_PARTIAL)[1:]):
                    with suppress(FileNotFoundError):  # another process completed or deleted it
                        if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                            path.unlink()
                            count += 1
        return count

    def _is_absent(self) -> bool:
        """Return whether this folder inside another one has no file yet. Raises `OSError` without the other one."""
        return self._inside is not None and self._inside.stat() is not None and not self.folder.exists()

    def _sync_folder(self) -> None:
        """Flush the folder, so that a new name survives a crash of the machine."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            advice = (
                "create the folder, or mount its disk"
                if isinstance(error, FileNotFoundError)
                else f"make this user the owner of the folder, free disk space, or change {self._setting}"
            )
            raise StorageUnavailable(f"The folder {self.folder} cannot be used ({reason}): {advice}.") from error


class _FolderFileWriter:
    """An open draft of a file."""

    def __init__(self, descriptor: int, translate_errors: Callable[[], AbstractContextManager[None]]) -> None:
        self.descriptor = descriptor
        self._translate_errors = translate_errors

    def write(self, chunk: bytes) -> None:
        with self._translate_errors():
            in_native_thread(self._write_all, chunk)

    def _write_all(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:  # a nearly full disk can accept only a part
            view = view[os.write(self.descriptor, view) :]

    def sync(self) -> None:
        """Flush the file to disk and drop it from the page cache, so that a later read comes from the disk."""
        os.fsync(self.descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
