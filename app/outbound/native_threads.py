"""Work that would block all greenlets of a process: reading and writing disks, and long computations."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import gevent
from gevent import monkey

P = ParamSpec("P")
T = TypeVar("T")


def in_native_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`, run in a native thread under gevent, so that other requests continue.

    `work` must not use sockets, locks or other objects that gevent has replaced.
    """
    if not monkey.is_module_patched("threading"):
        return work(*args, **kwargs)
    result: T = gevent.get_hub().threadpool.apply(work, args, kwargs)
    return result
