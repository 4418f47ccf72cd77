"""Something to be done every so often, as long as there is a reason to."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

_log = logging.getLogger("parley.turns")


class Ticker:
    """Calls `tick` every `interval` seconds from a thread of its own, for as long as it returns True.

    `wake` starts it, or keeps it going; nothing runs in a process that has nothing to do. A tick that fails is logged
    and counts as True: the next one tries again.
    """

    def __init__(self, name: str, interval: float, tick: Callable[[], bool]) -> None:
        self._name, self._interval, self._tick = name, interval, tick
        self._lock = threading.Lock()
        self._pause = threading.Event()  # never set: its wait gives way to others under gevent too
        self._asked = self._running = False

    def wake(self) -> None:
        """There is something to do, from the next tick on."""
        with self._lock:
            self._asked = True
            if not self._running:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
                self._running = True

    def _run(self) -> None:
        more = True
        while more:
            self._pause.wait(self._interval)
            with self._lock:
                self._asked = False
            more = self._try()
            with self._lock:
                more = self._running = more or self._asked

    def _try(self) -> bool:
        try:
            return self._tick()
        except SQLAlchemyError as error:
            _log.warning("%s missed a tick: %s", self._name, type(error).__name__)
        except Exception:  # were this thread to end, everything that relies on it would stop for good
            _log.exception("%s missed a tick", self._name)
        return True
