"""The limits of the child process, which it sets itself before it reads the file."""

import codecs
import ctypes
import os
import resource
import signal
import sys

STANDARD_STREAMS = 3
_CODECS = ("utf-8", "utf-16-le", "utf-16-be", "utf-16", "latin-1", "ascii", "cp437")  # of ZIP files and PDFium
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def set_limits(*, seconds: int, memory: int, output: int) -> None:
    """Limit CPU time and wall time in seconds, and the bytes of memory and of each written file; forbid processes.

    The wall time is limited here too, because the process that waits for this one may be killed.
    """
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, output)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    signal.alarm(seconds + 1)


def leave_network() -> bool:
    """Move this process into a network without interfaces; return whether the system allows that (Linux)."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def forbid_opening() -> None:
    """Let this process open nothing more: no file, no socket, no pipe. The standard streams stay open.

    Modules must be imported before.
    """
    for name in _CODECS:  # Python imports each with its first use
        codecs.lookup(name)
    os.chdir("/")
    _limit(resource.RLIMIT_NOFILE, STANDARD_STREAMS)


def _limit(kind: int, value: int) -> None:
    """Lower a limit; one that is lower already, or that the system does not let this process set, stays."""
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    try:
        resource.setrlimit(kind, (value, value))
    except (OSError, ValueError):  # macOS refuses RLIMIT_AS
        return
