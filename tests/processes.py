"""Processes that a test starts end with it, also where it fails halfway: one left behind is another test's warning."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil


@contextmanager
def reaped(*processes: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill, wait for and close whatever of them still runs when the block ends."""
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
    """Whether it runs: it has neither ended nor gone, which may happen while one asks."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
