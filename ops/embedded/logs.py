"""The log of an embedded server: `<home>/log/<server>.log`, limited in size."""

import contextlib
import os
import time

from ops.embedded.site import Site, translate_os_errors

MAX_BYTES = 2_000_000  # then it is truncated to the newest KEPT_BYTES
KEPT_BYTES = 200_000


class ServerLog:
    """A log file. `descriptor` is in append mode, so that the file can be truncated while the server writes to it."""

    def __init__(self, site: Site, name: str) -> None:
        with translate_os_errors(site.home):
            self.path = site.folder("log") / f"{name}.log"
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            site.give_to_owner(self.descriptor)
        self._start = 0

    def begin(self) -> None:
        """Mark the current end as the start of what `text` returns."""
        self.trim()
        self._start = os.fstat(self.descriptor).st_size

    def text(self) -> str:
        """Return what was written since `begin`, at most the last 64 KiB."""
        size = os.fstat(self.descriptor).st_size
        start = max(self._start, size - 65_536)
        return os.pread(self.descriptor, size - start, start).decode(errors="replace")

    def note(self, line: str) -> None:
        """Append a line of the keeper, unless the disk is full: the server is worth more than its log."""
        with contextlib.suppress(OSError):
            os.write(self.descriptor, f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper: {line}\n".encode())

    def trim(self) -> None:
        """Truncate the file if it is too large. On a full disk the kept lines are lost, too."""
        size = os.fstat(self.descriptor).st_size
        if size > MAX_BYTES:
            newest = os.pread(self.descriptor, KEPT_BYTES, size - KEPT_BYTES)
            os.ftruncate(self.descriptor, 0)
            with contextlib.suppress(OSError):
                os.write(self.descriptor, newest)
