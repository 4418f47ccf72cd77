"""What an earlier run left behind, cleared before a start.

A server whose keeper was killed is told to stop by the kernel (Linux), and may still be at it. PostgreSQL's own
processes notice the loss of their head by themselves, but not all of them at once. And a lock file whose process id
now belongs to somebody else would keep PostgreSQL from starting.
"""

import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from ops.embedded import state
from ops.embedded.errors import EmbeddedError
from ops.embedded.server import Server
from ops.embedded.site import explained

STOP_SECONDS = 60
ORPHAN_SECONDS = 5
POLL = 0.05


def clear(server: Server) -> None:
    """Wait for, then end, what is left of our own. Raises `EmbeddedError` for a server that somebody else started."""
    known = state.read(server.site, server.name)
    process = known.process() if known else None
    if process is not None:
        left = _end([process], server.stop_signal, STOP_SECONDS)
        left = _end(left, server.force_signal, ORPHAN_SECONDS)
        _end(left, signal.SIGKILL, ORPHAN_SECONDS)
    lock_file = server.data / "postmaster.pid"
    with explained(server.data):
        if lock_file.exists():
            _clear_postmaster(server.data, lock_file)


def wait_ended(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until they have ended, and return those that have not. One that nobody has collected yet has ended."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while (left := [process for process in left if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(POLL)
    return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _clear_postmaster(data: Path, lock_file: Path) -> None:
    head = _number_in(lock_file)
    left = wait_ended(_running_in(data), ORPHAN_SECONDS)
    if any(process.pid == head for process in left):
        raise EmbeddedError(f"a PostgreSQL that Parley did not start (pid {head}) uses {data}: stop it first")
    _end(left, signal.SIGKILL, ORPHAN_SECONDS)  # their head is gone; the log recovers what they did
    if head is not None and psutil.pid_exists(head):
        lock_file.unlink()


def _number_in(lock_file: Path) -> int | None:
    try:
        return abs(int(lock_file.read_text().splitlines()[0]))
    except (ValueError, IndexError, FileNotFoundError):
        return None


def _running_in(folder: Path) -> list[psutil.Process]:
    """The processes whose working folder it is: every process of a PostgreSQL works in its data folder."""
    where = str(folder)
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == where]


def _end(processes: Iterable[psutil.Process], number: int, seconds: float) -> list[psutil.Process]:
    alive = [process for process in processes if _runs(process)]
    for process in alive:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    return wait_ended(alive, seconds)
