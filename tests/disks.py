"""Small file systems, which a test can fill."""

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest


@contextmanager
def mount_small_disk(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """Mount a file system of this size at `folder`, which is created; skip the test where that is not allowed."""
    with try_to_mount(folder, megabytes=megabytes) as problem:
        if problem:
            pytest.skip(problem)
        yield folder


@contextmanager
def try_to_mount(folder: Path, *, megabytes: int) -> Iterator[str]:
    """Create `folder` and mount a file system of this size there; yield why that was not possible, or nothing."""
    folder.mkdir()
    if sys.platform != "linux":
        yield "mounts a file system of Linux"
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0711", "parley", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        yield f"no file system can be mounted here: {mounted.stderr.decode().strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk of `folder` with a file, and return the file."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with pytest.raises(OSError, match="No space left"):
                _write_forever(file, size)
    return ballast


def _write_forever(file: io.FileIO, size: int) -> NoReturn:
    while True:
        file.write(b"x" * size)
