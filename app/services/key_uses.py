"""When each API key was last used, kept without a write per request.

A use is remembered in the process and written a moment later by a thread of its own, together with those of other
keys; for the minute after that the key's uses are only counted as known. So a key costs a process one small write a
minute at most, and a request none. What is lost when a process is killed is a second.
"""

import logging
import threading
import time
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.repositories import api_keys as sql
from app.services.identity import Identity, PresentedKey

EVERY = 60.0  # seconds between two writes of one key
GATHER = 1.0  # seconds from a use to its being written, in which those of other keys join it

_log = logging.getLogger("parley.api_keys")

_Key = tuple[UUID, UUID]  # the user's id and the key's


class KeyUses:
    """The uses that one process has seen. Thread-safe; its thread exists only while something is to be written."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = threading.Lock()
        self._known: dict[PresentedKey, float] = {}  # when each was last taken up, by the monotonic clock
        self._waiting: set[_Key] = set()
        self._gathering = threading.Event()
        self._running = False

    def knows(self, caller: Identity) -> bool:
        """Whether the caller's key has been verified here within about the last minute, and not merely claims so."""
        return caller.key in self._known

    def note(self, caller: Identity) -> None:
        """The caller's key, which has been verified, was used. Nothing for a caller without one. Never waits."""
        if caller.key is None:
            return
        key, now = (caller.user_id, caller.key.id), time.monotonic()
        with self._lock:
            if now - self._known.get(caller.key, -EVERY) < EVERY:
                return
            self._known[caller.key] = now
            self._waiting.add(key)
            if not self._running:
                self._running = True
                threading.Thread(target=self._write_later, name="api key uses", daemon=True).start()

    def _write_later(self) -> None:
        while True:
            self._gathering.wait(GATHER)
            with self._lock:
                keys, self._waiting = self._waiting, set()
                old = time.monotonic() - EVERY
                self._known = {known: seen for known, seen in self._known.items() if seen > old}
                if not keys:
                    self._running = False
                    return
            try:
                self._write(keys)
            except SQLAlchemyError as error:
                # Not worth another try: the next use after a minute is written again.
                _log.warning("the last uses of %d API keys were not written: %s", len(keys), type(error).__name__)

    def _write(self, keys: set[_Key]) -> None:
        user_ids, key_ids = zip(*keys, strict=True)
        with self._engine.connect() as connection:
            # Half the time: what another process wrote nearly a minute ago is to be written again.
            sql.TOUCH.all(connection, {"user_ids": list(user_ids), "key_ids": list(key_ids), "seconds": EVERY / 2})
