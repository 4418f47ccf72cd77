"""Switches to other greenlets in a loop that seldom waits."""

import time

MAX_BUSY_SECONDS = 0.01  # without a wait: gevent does not switch while data is available
_YIELD_SECONDS = 1e-6  # gevent runs callbacks of sleep(0) fifty times before it looks at sockets and timers


class Yielder:
    """The time since other greenlets could run last. One thread."""

    __slots__ = ("_max_busy", "_yielded_at")

    def __init__(self, max_busy: float = MAX_BUSY_SECONDS) -> None:
        self._max_busy = max_busy
        self.waited()

    def waited(self) -> None:
        """Record that other greenlets have just run."""
        self._yielded_at = time.monotonic()

    def step(self) -> None:
        """Let other greenlets run, if they could not for `max_busy` seconds."""
        if time.monotonic() - self._yielded_at >= self._max_busy:
            time.sleep(_YIELD_SECONDS)
            self.waited()
