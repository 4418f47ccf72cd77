"""Values of metrics in mapped files of the process's slot, in the format in which prometheus_client reads them.

The library's own class takes 1.1 us for a change under gevent, where its lock is one of gevent's, and asks for the
slot each time. Here a change is one write to the mapped memory, which takes 0.2 us. The kernel keeps what is written
when the process is killed.
"""

import mmap
import os
import struct
import sys
from pathlib import Path
from typing import Any

from gevent import monkey
from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from app.metrics import slot_files
from app.metrics.multiprocess import VARIABLE, process_slot

# A native lock, held for a few instructions; gevent has replaced what `threading` uses, also for its own RLock. It is
# reentrant, because the garbage collector can return a lost database connection, which is counted, while it is held.
_RLock = monkey.get_original("_thread", "RLock")
_CELL = 8  # bytes of a value
_HEAD = 8  # bytes at the start of a file: how many are used, and padding

_lock = _RLock()
_files: dict[str, "_MappedFile"] = {}
_values: list["FileValue"] = []
_is_open = False  # a forked child has its own slot, so it opens other files


def keep_values_in_files() -> None:
    """Make prometheus_client keep the values of all metrics that it creates from now on in files."""
    values.ValueClass = FileValue
    os.register_at_fork(after_in_child=_leave_parent_files)


class FileValue:
    """One value. The library creates it, and calls its methods."""

    _multiprocess = True

    def __init__(
        self,
        kind: str,
        metric_name: str,
        name: str,
        labelnames: Any,
        labelvalues: Any,
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._kind = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        self._key = mmap_key(metric_name, name, labelnames, labelvalues, help_text)
        with _lock:
            if not _is_open:
                _open_all()
            self.open()
            _values.append(self)

    def open(self) -> None:
        """Find the cell in the file of the present slot. Raises OSError if a full disk has no room for a new one."""
        if self._kind not in _files:
            slot = process_slot()  # first: on a full disk, it changes the folder
            _files[self._kind] = _MappedFile(slot_files.path(Path(os.environ[VARIABLE]), self._kind, slot))
        self._cells, self._index = _files[self._kind].cell(self._key)

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        with _lock:
            if not _is_open:
                _open_all()
            self._cells[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value. `timestamp` decides which process's value is the most recent."""
        with _lock:
            if not _is_open:
                _open_all()
            self._cells[self._index] = value
            if timestamp is not None:
                self._cells[self._index + 1] = timestamp

    def get(self) -> float:
        """Return the value."""
        with _lock:
            if not _is_open:
                _open_all()
            return self._cells[self._index]

    def set_exemplar(self, exemplar: Any) -> None:
        """Ignore the exemplar: the files have no place for it."""

    def get_exemplar(self) -> None:
        """Return None."""


class _MappedFile:
    """A file of values: its head, then for each value the length of its key, the key, the value and its timestamp."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        # A slot of a process that ended has values already.
        known = MmapedDict.read_all_values_from_file(path)  # type: ignore[no-untyped-call]  # missing in the library
        self._positions = {key: position for key, _, _, position in known}
        self._map()

    def cell(self, key: str) -> "tuple[memoryview[float], int]":
        """Return the memory of the file, and the index of this value in it."""
        if key not in self._positions:
            self._positions[key] = self._append(key)
        return self._cells, self._positions[key] // _CELL

    def _map(self) -> None:
        # Values found before keep the former mapping, which shows the same file.
        self._bytes = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        self._cells: memoryview[float] = memoryview(self._bytes).cast("d")

    def _append(self, key: str) -> int:
        encoded = key.encode()
        padded = encoded + b" " * (_CELL - (len(encoded) + 4) % _CELL)
        entry = struct.pack(f"i{len(padded)}sdd", len(encoded), padded, 0.0, 0.0)
        start = int.from_bytes(self._bytes[:4], sys.byteorder) or _HEAD
        end = start + len(entry)
        if end > len(self._bytes):
            if end > os.fstat(self._descriptor).st_size:
                slot_files.grow(self._descriptor, 2 * len(self._bytes))
            self._map()
        self._bytes[start:end] = entry
        self._bytes[:4] = struct.pack("i", end)  # last: a reader sees the entry when it is complete
        return end - 2 * _CELL


def _open_all() -> None:
    """Open the values of a forked child in its own slot: all of them, so that it exposes those not yet counted too."""
    global _is_open
    _is_open = True
    for value in _values:
        value.open()


def _leave_parent_files() -> None:
    """Drop the parent's files in a forked child, without closing what other objects still map."""
    global _is_open, _lock
    _is_open, _lock = False, _RLock()  # a thread of the parent may have held it
    _files.clear()
