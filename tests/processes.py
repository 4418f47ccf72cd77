"""Helpers for processes that a test starts, so that none outlives a test that fails."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil


@contextmanager
def reaped(*processes: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill the processes that still run at the end of the block, and close their pipes."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs; a zombie, or one that ends during the call, does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
