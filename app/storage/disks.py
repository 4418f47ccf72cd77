"""The disk of a folder."""

import shutil
from pathlib import Path
from typing import NamedTuple


class DiskUsage(NamedTuple):
    """Bytes of a disk. `free` are those that an ordinary process may still write; `folder` was looked at."""

    folder: Path
    total: int
    used: int
    free: int


def disk_usage(folder: Path) -> DiskUsage:
    """Return the usage of the disk of `folder`, or of its nearest parent that exists. Raises `OSError`."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return DiskUsage(existing, *shutil.disk_usage(existing))
