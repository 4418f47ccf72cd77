"""Cancellation of an outbound call from another thread."""

import threading
from collections.abc import Callable


class CancelToken:
    """Cancels a call from any thread, by closing what the call's own thread waits for.

    The call attaches a function that ends its current wait, as soon as there is one. A token that was cancelled before
    ends the wait when it is attached. The call then fails with an ordinary error; `cancelled` gives the reason.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self._close: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def attach(self, close: Callable[[], None]) -> None:
        """Replace the function that ends the current wait, and call it at once if cancelled. It must not block."""
        with self._lock:
            self._close = close
            if self.cancelled:
                close()

    def detach(self) -> None:
        """Remove the attached function: its connection may now belong to another call."""
        with self._lock:
            self._close = None

    def cancel(self) -> None:
        """Cancel the call. Further calls of this method call the attached function again."""
        with self._lock:
            self.cancelled = True
            if self._close is not None:
                self._close()
