"""Signalling of a child process when its parent dies, also by SIGKILL (Linux only; no effect elsewhere)."""

import ctypes
import os
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def signal_on_parent_death(number: int, parent: int | None = None) -> Callable[[], None]:
    """Return a `preexec_fn`: the child gets the signal `number` when the thread that started it ends.

    Changing the user clears the setting; subprocess calls `preexec_fn` after that. The C library is loaded before the
    fork, because a forked child may do little more than system calls. `parent` is the pid of the starting process, if
    it is not this one.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    expected = os.getpid() if parent is None else parent

    def request_signal() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != expected:  # the parent ended before prctl was called
            os.kill(os.getpid(), number)

    return request_signal
