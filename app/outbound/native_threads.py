"""Work that would block all greenlets of a process: reading and writing disks, and long computations."""

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

# Apart from the hub's own threads, which resolve host names: a disk that hangs must not stop requests to others.
_THREADS = 10
_POOL = "parley_threads"  # attribute of a hub


def in_native_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`, run in a native thread under gevent, so that other requests continue.

    `work` must not use sockets, locks or other objects that gevent has replaced.
    """
    if not monkey.is_module_patched("threading"):
        return work(*args, **kwargs)
    result: T = _pool().apply(work, args, kwargs)
    return result


def _pool() -> ThreadPool:
    """Return the threads of this hub. A child process begins with new ones: threads do not survive a fork."""
    hub = gevent.get_hub()
    process, pool = hub.__dict__.get(_POOL, (None, None))
    if process != os.getpid():
        pool = ThreadPool(_THREADS, hub=hub)
        hub.__dict__[_POOL] = os.getpid(), pool
    return cast(ThreadPool, pool)
