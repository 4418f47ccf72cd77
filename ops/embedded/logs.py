"""The log of an embedded server: `<home>/log/<server>.log`, kept small."""

import contextlib
import os
import time

from ops.embedded.site import Site, explained

LARGEST = 2_000_000  # bytes; then all but the newest KEPT bytes go
KEPT = 200_000


class ServerLog:
    """The server writes through `descriptor`, in append mode, so that the file can be cut while it runs."""

    def __init__(self, site: Site, name: str) -> None:
        with explained(site.home):
            self.path = site.folder("log") / f"{name}.log"
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            site.give_to_owner(self.descriptor)
        self._start = 0

    def begin(self) -> None:
        """From here on is what `text` returns."""
        self.trim()
        self._start = os.fstat(self.descriptor).st_size

    def text(self) -> str:
        """What was written since `begin`, at most the last 64 kB."""
        size = os.fstat(self.descriptor).st_size
        start = max(self._start, size - 65_536)
        return os.pread(self.descriptor, size - start, start).decode(errors="replace")

    def note(self, line: str) -> None:
        """A line of the keeper's own."""
        os.write(self.descriptor, f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper: {line}\n".encode())

    def trim(self) -> None:
        """Cut the file if it has grown too large. On a full disk the oldest lines are simply lost."""
        size = os.fstat(self.descriptor).st_size
        if size > LARGEST:
            newest = os.pread(self.descriptor, KEPT, size - KEPT)
            os.ftruncate(self.descriptor, 0)
            with contextlib.suppress(OSError):
                os.write(self.descriptor, newest)
