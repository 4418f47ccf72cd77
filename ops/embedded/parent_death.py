"""Children that do not outlive their parent, not even after a kill -9 (Linux; elsewhere nothing happens)."""

import ctypes
import os
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(number: int) -> None:
    """Have the kernel send signal `number` to this process when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def dying_with_parent(number: int) -> Callable[[], None] | None:
    """The same as a `preexec_fn`: subprocess calls it after it has changed the user, which would clear the setting.

    The C library is loaded here, before the fork, because a forked child may do little more than system calls.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the arrangement was made
            os.kill(os.getpid(), number)

    return arrange
