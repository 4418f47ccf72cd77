"""Waiting in a test for a state that another thread, process or server reaches."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

TIMEOUT = 100.0  # seconds; reached only when something is broken, so it is long enough for a loaded machine
INTERVAL = 0.02  # seconds between two calls of a condition

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    message: str | Callable[[], str] = "the awaited state was not reached",
    *,
    timeout: float = TIMEOUT,
) -> T:
    """Poll `condition` until it returns a true value, and return that value.

    Raises AssertionError with `message` after `timeout` seconds. A callable message, such as one that reads a log, is
    evaluated only then.
    """
    pause = threading.Event()  # time.sleep is replaced in some tests
    deadline = monotonic() + timeout
    while not (value := condition()):
        if monotonic() > deadline:
            raise AssertionError(f"{message() if callable(message) else message} (waited {timeout:g} s)")
        pause.wait(INTERVAL)
    return value
