"""The folder in which the processes of one host keep their metric values, so that any of them can expose the sum.

    alive.lock              held in shared mode by every living process
    slot_<n>.lock           held by the one process that writes the files of slot n
    <type>_<n>-<hash>.db    metric values; see `app.metrics.slot_files` and `app.metrics.file_values`
    external_<group>.json   see `app.metrics.external_gauges`

prometheus_client by itself names the files after process ids. Their number then grows with every worker that is
replaced, and two containers that share a folder have the same ids. Here each process takes a numbered slot instead. A
new process reuses the slot of a dead one and continues its counters, so counters never go back and there are at most
as many files as there were processes at once. A slot whose lock is free has no process: its live gauges are ignored.

A process that starts while no other one is alive empties the folder. The kernel releases a lock when its holder ends,
so a crash needs no cleanup.

A process that finds no room on the disk for its files keeps them in memory, in a private folder. It serves as before,
but its values are not exposed until it is replaced.
"""

import atexit
import errno
import fcntl
import logging
import os
import re
import shutil
import tempfile
import zlib
from functools import cache
from pathlib import Path

from app.errors import SettingsError
from app.metrics import slot_files

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client keeps its values in files when it is imported with this set
MAX_SLOTS = 1024  # more processes than one host can have

# Only files of this module and of the library: the variable may name a folder with other files in it.
_OWN_FILES = re.compile(
    r"(counter|histogram|gauge_[a-z]+)_\d+-[0-9a-f]{8}\.db|slot_\d+\.lock|external_[a-z_]+\.(json|new)"
)

_alive_lock: int | None = None  # descriptor of the held lock; forked children hold it too
_slot: str | None = None
_slot_lock: int | None = None
_fork_hook_registered = False
_kept_in_memory = False  # since the first metric was created
_shared: str | None = None  # the shared folder, in a process whose own files are in a private one
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger("parley.metrics")


def share(home: Path) -> Path | None:
    """Keep this process's metrics in the folder of its host, and return it: `<home>/run/metrics`.

    Call it once in the first process of a family (gunicorn's arbiter, Celery's main process), before any metric is
    created. PROMETHEUS_MULTIPROC_DIR names another folder. Raises `SettingsError` if the folder cannot be used, unless
    its disk is full: then the metrics stay in memory and None is returned.
    """
    if _kept_in_memory:
        raise RuntimeError("share() must be called before the first metric is created")
    folder = Path(os.environ.get(VARIABLE) or home / "run" / "metrics").absolute()
    try:
        # If the home is new: the embedded servers run under other system accounts and must be able to traverse it.
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _join(folder)
    except OSError as error:
        if error.errno in _NO_ROOM:
            _log.warning("%s: %s; each process exposes only its own metrics until a restart", folder, error.strerror)
            return None
        raise SettingsError(
            f"{error.filename or folder}: {error.strerror}; metrics are kept there: set PARLEY_HOME or {VARIABLE} to a"
            " folder that this user may write"
        ) from None
    os.environ[VARIABLE] = str(folder)
    return folder


def shared_folder() -> Path | None:
    """Return the folder, or None if this process keeps its metrics in memory."""
    path = _shared or os.environ.get(VARIABLE)
    return Path(path) if path else None


def keeps_values_in_files() -> bool:
    """Return whether metrics keep their values in the shared folder; after False, `share` raises RuntimeError."""
    global _kept_in_memory
    _kept_in_memory = shared_folder() is None
    return not _kept_in_memory


def process_slot() -> str:
    """Return the name of this process's slot. The first call takes one; a forked child takes its own."""
    return _slot or _take_slot()


def has_room_for_child() -> bool:
    """Return whether a new child of a metric can be written without running out of disk."""
    return _slot is None or slot_files.has_room(Path(os.environ[VARIABLE]), _slot)


def live_slots(folder: Path | None = None) -> list[str]:
    """Return the names of all slots of living processes, for this version of the declarations.

    A process that does not share its own metrics passes the `folder` of others.
    """
    folder = folder or _folder()
    numbers = sorted(int(path.stem.removeprefix("slot_")) for path in folder.glob("slot_*.lock"))
    return [_name(number) for number in numbers if _is_taken(folder, number)]


@cache
def declarations_hash() -> str:
    """Return eight hex digits that change with the metrics' declarations.

    Values with the same name but other buckets or labels cannot be added up, so processes started before and after an
    upgrade do not read each other's files.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return f"{zlib.crc32(b''.join(path.read_bytes() for path in sources)):08x}"


def _join(folder: Path) -> None:
    global _alive_lock
    if _alive_lock is not None:
        return
    descriptor = os.open(folder / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _lock(descriptor, fcntl.LOCK_EX):
        for path in folder.iterdir():
            if _OWN_FILES.fullmatch(path.name):
                path.unlink(missing_ok=True)
    # Two processes that start at once may both empty the folder: neither has counted anything yet.
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    _alive_lock = descriptor


def _take_slot() -> str:
    global _fork_hook_registered
    if not _fork_hook_registered:
        os.register_at_fork(after_in_child=_leave_parent_slot)
        _fork_hook_registered = True
    folder = Path(os.environ.get(VARIABLE) or _folder())
    try:
        return _take_slot_in(folder)
    except OSError as error:
        if error.errno not in _NO_ROOM or _shared is not None:
            raise
        _log.warning("%s: %s; the metrics of this process are not exposed until it restarts", folder, error.strerror)
        return _take_slot_in(_open_private_folder())


def _take_slot_in(folder: Path) -> str:
    """Take the first free slot, with all its files allocated. Raises OSError if the disk is full."""
    global _slot, _slot_lock
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _join(folder)
    for number in range(1, MAX_SLOTS + 1):
        descriptor = _open_slot(folder, number)
        if _lock(descriptor, fcntl.LOCK_EX):
            try:
                slot_files.allocate(folder, _name(number))
            except OSError:
                os.close(descriptor)
                raise
            _slot_lock, _slot = descriptor, _name(number)
            return _slot
        os.close(descriptor)
    raise RuntimeError(f"{folder}: all {MAX_SLOTS} slots are taken")


def _open_private_folder() -> Path:
    """Make this process and its children keep their files in a new folder in memory."""
    global _shared
    _shared = os.environ[VARIABLE]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a random file name
    private = os.environ[VARIABLE] = tempfile.mkdtemp(prefix="parley-metrics-", dir=memory)
    creator = os.getpid()
    atexit.register(lambda: shutil.rmtree(private, ignore_errors=True) if os.getpid() == creator else None)
    return Path(private)


def _is_taken(folder: Path, number: int) -> bool:
    descriptor = _open_slot(folder, number)
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _open_slot(folder: Path, number: int) -> int:
    return os.open(folder / f"slot_{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _name(number: int) -> str:
    return f"{number}-{declarations_hash()}"


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder() -> Path:
    folder = shared_folder()
    if folder is None:
        raise RuntimeError(f"{VARIABLE} is not set: this process keeps its metrics in memory")
    return folder


def _leave_parent_slot() -> None:
    """Release the inherited descriptor in a forked child; the parent keeps the lock until it ends."""
    global _slot, _slot_lock
    if _slot_lock is not None:
        os.close(_slot_lock)
    _slot = _slot_lock = None
