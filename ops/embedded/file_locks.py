"""Advisory file locks with timeouts. The kernel releases them when their process ends."""

import fcntl
import os
import time
from pathlib import Path

from ops.embedded.errors import EmbeddedError
from ops.embedded.site import Site, translate_os_errors

POLL = 0.05  # seconds between two attempts; flock has no timeout


def open_lock(site: Site, name: str) -> int:
    """Open `<home>/run/<name>` for locking. The descriptor is not inherited across exec."""
    with translate_os_errors(site.home):
        path = site.folder("run") / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(descriptor).st_uid == os.geteuid():
            site.give_to_owner(descriptor)
        return descriptor


def try_lock(descriptor: int, kind: int) -> bool:
    """Take the lock (`fcntl.LOCK_SH` or `LOCK_EX`) if it is free. Returns whether it was."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire(descriptor: int, kind: int, *, seconds: float, waiting_for: str) -> None:
    """Take the lock. Raises `EmbeddedError` with `waiting_for` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor, kind):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"waited {seconds:.0f} s for {waiting_for}; see the log folder beside the data")
        time.sleep(POLL)


def is_held(site: Site, name: str) -> bool:
    """Return whether a process holds the lock exclusively."""
    descriptor = open_lock(site, name)
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def path_of(site: Site, name: str) -> Path:
    return site.home / "run" / name
