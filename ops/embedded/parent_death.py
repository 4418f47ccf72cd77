"""Children that do not outlive their parent, not even after a kill -9 (Linux; elsewhere nothing happens)."""

import ctypes
import os
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def dying_with_parent(number: int, parent: int | None = None) -> Callable[[], None]:
    """A function for the child to call, such as a `preexec_fn`: when the thread that started it ends, it gets `number`.

    Changing the user clears the setting; subprocess calls a `preexec_fn` after it has done that. The C library is
    loaded here, before the fork, because a forked child may do little more than system calls. `parent` is the process
    that starts the child, if not this one.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    expected = os.getpid() if parent is None else parent

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != expected:  # it ended before the arrangement was made
            os.kill(os.getpid(), number)

    return arrange
