"""The folder in which the processes of one host keep what they have counted, so that one of them can show it all.

    presence.lock     held, shared, by everybody who lives
    seat_<n>.lock     held by the one process whose counts are in the files of seat n
    <type>_<n>-<code>.db    those counts; written and read by prometheus_client, of which this module knows nothing
    readings_<place>.json   see `app.metrics.readings`

Files named after process ids, as the library has them by itself, grow in number with every worker that is replaced,
and two containers that share a folder have the same ids. So a process takes a seat. Whoever comes after a dead process
takes its seat and counts on from where it stopped: counters never go back, and there are as many files as there were
processes at once. A seat whose lock is free is empty, however its process ended: its "live" gauges count no more.

Whoever comes while nobody else lives begins anew; one of several processes that restarts finds the others' counts, and
its own, as they were. The kernel drops a lock when its holder ends, so no crash leaves anything to be mended.
"""

import fcntl
import os
import re
import sys
import zlib
from functools import cache
from pathlib import Path

from app.errors import SettingsError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client keeps its values in files when it is imported with this set
SEATS = 1024  # more processes than one host can have

# Only what this module and the library put there: the variable may name a folder with other things in it.
_OURS = re.compile(r"(counter|histogram|gauge_[a-z]+)_\d+-[0-9a-f]{8}\.db|seat_\d+\.lock|readings_[a-z_]+\.(json|new)")

_presence: int | None = None  # the descriptor that holds the lock; forked children hold it too
_seat: str | None = None
_seat_lock: int | None = None


def share(home: Path) -> Path:
    """Count together with the other processes of this host from now on; returns the folder, `<home>/run/metrics`.

    To be called once in the first process of a family (gunicorn's arbiter, Celery's main process) before any metric is
    declared. A folder named by PROMETHEUS_MULTIPROC_DIR is taken instead. Raises `SettingsError` if it cannot be used.
    """
    if "app.metrics.registry" in sys.modules and VARIABLE not in os.environ:
        raise RuntimeError("too late to share metrics: this process has declared its own")
    folder = Path(os.environ.get(VARIABLE) or home / "run" / "metrics").absolute()
    try:
        # Where the embedded servers have not been before: their accounts must be able to pass through.
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _join(folder)
    except OSError as error:
        raise SettingsError(
            f"{error.filename or folder}: {error.strerror}; what is counted for /metrics is kept there: set PARLEY_HOME"
            f" or {VARIABLE} to a folder that this user may write"
        ) from None
    os.environ[VARIABLE] = str(folder)
    return folder


def shared_folder() -> Path | None:
    """The folder, or None in a process that counts for itself alone."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else None


def seat() -> str:
    """The name of this process's seat, taken when first asked for and kept until the process ends; not over a fork."""
    return _seat or _take_seat()


def seated(folder: Path | None = None) -> list[str]:
    """The names of all seats in which a living process sits, for this version of the code.

    A `folder` may be named by a process that does not share, to look at others.
    """
    folder = folder or _folder()
    numbers = sorted(int(path.stem.removeprefix("seat_")) for path in folder.glob("seat_*.lock"))
    return [_name(number) for number in numbers if _is_taken(folder, number)]


@cache
def code() -> str:
    """Eight hex digits that change with the metrics' declarations.

    Counts of the same name in other buckets, or under other labels, cannot be added up: processes started before and
    after an upgrade do not show each other's.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in sources)):08x}"


def _join(folder: Path) -> None:
    global _presence
    if _presence is not None:
        return
    descriptor = os.open(folder / "presence.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _lock(descriptor, fcntl.LOCK_EX):
        for path in folder.iterdir():
            if _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)
    # Two who come at once may both find nobody, and both wipe: neither has counted anything yet.
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _presence = descriptor


def _take_seat() -> str:
    global _seat, _seat_lock
    folder = _folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _join(folder)
    for number in range(1, SEATS + 1):
        descriptor = _open_seat(folder, number)
        if _lock(descriptor, fcntl.LOCK_EX):
            for path in folder.glob(f"gauge_live*_{number}-*.db"):
                path.unlink(missing_ok=True)  # what was under way in the process before is under way no more
            _seat_lock, _seat = descriptor, _name(number)
            return _seat
        os.close(descriptor)
    raise RuntimeError(f"{folder}: all {SEATS} seats are taken")


def _is_taken(folder: Path, number: int) -> bool:
    descriptor = _open_seat(folder, number)
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _open_seat(folder: Path, number: int) -> int:
    return os.open(folder / f"seat_{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _name(number: int) -> str:
    return f"{number}-{code()}"


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder() -> Path:
    folder = shared_folder()
    if folder is None:
        raise RuntimeError(f"{VARIABLE} is not set: this process counts for itself alone")
    return folder


def _leave_parent() -> None:
    """A forked child takes a seat of its own; the lock stays with the parent, as long as it lives."""
    global _seat, _seat_lock
    if _seat_lock is not None:
        os.close(_seat_lock)
    _seat = _seat_lock = None


os.register_at_fork(after_in_child=_leave_parent)
