"""The files in which a process keeps its metric values, allocated in full before they are written.

The files are mapped into memory. On a full disk, the kernel ends a process that writes to a page without a block, by
SIGBUS. So each file gets its blocks when a process takes its slot, and more before a new series could need them.
"""

import os
import sys
from pathlib import Path

# Bytes at the start: several times what a busy process was seen to use (0.3 MB of histograms). Kinds as in file names.
SIZES = {
    "counter": 1 << 18,
    "histogram": 1 << 21,
    "gauge_livesum": 1 << 16,
    "gauge_liveall": 1 << 16,
    "gauge_mostrecent": 1 << 18,
}
LIVE_KINDS = ("gauge_livesum", "gauge_liveall")
RESERVE = 1 << 15  # bytes; more than a new child of any metric takes


def allocate(folder: Path, slot: str) -> None:
    """Give the slot's files their blocks, and remove the live values of the process that had the slot before.

    Raises OSError if the disk is full; files that are allocated already stay usable.
    """
    for kind, size in SIZES.items():
        file = path(folder, kind, slot)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if kind in LIVE_KINDS:
                os.pwrite(descriptor, bytes(8), 0)  # the file's head: no bytes are used
            if not _is_allocated(descriptor, size):
                grow(descriptor, size)
        except OSError:
            if _used(descriptor) == 0:
                file.unlink()  # the blocks that it got are needed elsewhere
            raise
        finally:
            os.close(descriptor)


def has_room(folder: Path, slot: str) -> bool:
    """Return whether each file of the slot has room for a new child, after growing it if necessary."""
    try:
        return all(_reserve(path(folder, kind, slot)) for kind in SIZES)
    except OSError:
        return False


def _reserve(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if _used(descriptor) + RESERVE > size:
            grow(descriptor, 2 * size)
        return True
    finally:
        os.close(descriptor)


def _used(descriptor: int) -> int:
    """Return how many bytes the library has used, which it stores at the start of the file."""
    return int.from_bytes(os.pread(descriptor, 4, 0), sys.byteorder)


def grow(descriptor: int, size: int) -> None:
    """Make a file `size` bytes long, all with blocks. Raises OSError if the disk is full."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.ftruncate(descriptor, size)


def _is_allocated(descriptor: int, size: int) -> bool:
    status = os.fstat(descriptor)
    return status.st_size >= size and status.st_blocks * 512 >= size


def path(folder: Path, kind: str, slot: str) -> Path:
    """Return the path of the slot's file for one kind of metric."""
    return folder / f"{kind}_{slot}.db"
