"""The state of a socket now, without waiting."""

import select
import sys
from collections.abc import Callable
from typing import Any


def has_event(descriptor: int, events: int) -> bool:
    """Return whether one of the `events` of poll(2), an error or the end of the connection has occurred."""
    poll = _native_poll()()
    poll.register(descriptor, events)
    return bool(poll.poll(0))


def _native_poll() -> Callable[[], Any]:
    """Return `select.poll`, where gevent has replaced it too: with a timeout of 0, nothing waits.

    gevent's lets other greenlets run, which takes longer. Commands do not import gevent, so nothing does it here.
    """
    monkey = sys.modules.get("gevent.monkey")
    return monkey.get_original("select", "poll") if monkey is not None else select.poll
