"""Cleanup of processes and lock files that an earlier run left, before a start.

If a keeper was killed, the kernel has sent its server the stop signal (Linux), and the server may still be stopping.
The child processes of a killed postmaster end by themselves, but not all at once. A lock file whose process id was
reused would prevent PostgreSQL from starting.
"""

import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from ops.embedded import state
from ops.embedded.errors import EmbeddedError
from ops.embedded.server import Server
from ops.embedded.site import translate_os_errors

STOP_SECONDS = 60
ORPHAN_SECONDS = 5
POLL = 0.05


def clear(server: Server) -> None:
    """Stop the server of an earlier run. Raises `EmbeddedError` if Parley did not start the running server."""
    previous = state.read(server.site, server.name)
    process = running_process(previous) if previous else None
    if process is not None:
        alive = _end([process], server.stop_signal, STOP_SECONDS)
        alive = _end(alive, server.force_signal, ORPHAN_SECONDS)
        _end(alive, signal.SIGKILL, ORPHAN_SECONDS)
    lock_file = server.data / "postmaster.pid"
    with translate_os_errors(server.data):
        if lock_file.exists():
            _clear_postmaster(server.data, lock_file)


def running_process(recorded: state.State) -> psutil.Process | None:
    """Return the process of a recorded server if it is running, else None."""
    if recorded.pid is None or recorded.born is None:
        return None
    try:
        process = psutil.Process(recorded.pid)
        alive = abs(process.create_time() - recorded.born) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if alive else None


def wait_ended(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended; return those still running. A zombie counts as ended."""
    deadline = time.monotonic() + seconds
    alive = list(processes)
    while (alive := [process for process in alive if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(POLL)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _clear_postmaster(data: Path, lock_file: Path) -> None:
    postmaster = _read_pid(lock_file)
    alive = wait_ended(_running_in(data), ORPHAN_SECONDS)
    if any(process.pid == postmaster for process in alive):
        raise EmbeddedError(f"a PostgreSQL that Parley did not start (pid {postmaster}) uses {data}: stop it first")
    _end(alive, signal.SIGKILL, ORPHAN_SECONDS)  # children without a postmaster; WAL recovery follows
    if postmaster is not None and psutil.pid_exists(postmaster):
        lock_file.unlink()


def _read_pid(lock_file: Path) -> int | None:
    try:
        return abs(int(lock_file.read_text().splitlines()[0]))
    except (ValueError, IndexError, FileNotFoundError):
        return None


def _running_in(folder: Path) -> list[psutil.Process]:
    """Return the processes with this working folder; for all processes of PostgreSQL it is the data folder."""
    path = str(folder)
    return [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == path]


def _end(processes: Iterable[psutil.Process], number: int, seconds: float) -> list[psutil.Process]:
    alive = [process for process in processes if _is_alive(process)]
    for process in alive:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    return wait_ended(alive, seconds)
