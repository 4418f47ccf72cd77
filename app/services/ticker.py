"""A periodic background thread that runs only while there is work."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

_log = logging.getLogger("parley.turns")


class Ticker:
    """Calls `tick` every `interval` seconds in a thread of its own, as long as it returns True.

    `wake` starts the thread or keeps it running. A failed tick is logged and counts as True: the next one tries again.
    """

    def __init__(self, name: str, interval: float, tick: Callable[[], bool]) -> None:
        self._name, self._interval, self._tick = name, interval, tick
        self._lock = threading.Lock()
        self._pause = threading.Event()  # never set; waiting on it lets other greenlets run under gevent
        self._woken = self._running = False

    def wake(self) -> None:
        """Run the next tick, because there is work."""
        with self._lock:
            self._woken = True
            if not self._running:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
                self._running = True

    def _run(self) -> None:
        more = True
        while more:
            self._pause.wait(self._interval)
            with self._lock:
                self._woken = False
            more = self._try()
            with self._lock:
                more = self._running = more or self._woken

    def _try(self) -> bool:
        try:
            return self._tick()
        except SQLAlchemyError as error:
            _log.warning("%s missed a tick: %s", self._name, type(error).__name__)
        except Exception:  # an error must not end the thread that others rely on
            _log.exception("%s missed a tick", self._name)
        return True
