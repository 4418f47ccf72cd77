"""The last use of each API key, stored without a write per request.

A use is kept in the process and written shortly later by a background thread, together with those of other keys.
Further uses of the key within a minute are not written. So each process writes a key at most once a minute, and no
request waits for a write. A killed process loses one second of uses.
"""

import logging
import threading
import time
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.database import autocommit_engine
from app.metrics.credentials import record_api_key_request
from app.repositories import api_keys as sql
from app.services.identity import Identity, PresentedKey

WRITE_INTERVAL = 60.0  # seconds between two writes of one key
BATCH_SECONDS = 1.0  # from a use to its write, which includes the uses of other keys until then

_log = logging.getLogger("parley.api_keys")

_Key = tuple[UUID, UUID]  # user id and key id


class KeyUses:
    """The key uses of one process. Thread-safe; its thread runs only while there are uses to write."""

    def __init__(self, engine: Engine) -> None:
        self._engine = autocommit_engine(engine)
        self._lock = threading.Lock()
        self._written: dict[PresentedKey, float] = {}  # time of the use that was written last, by the monotonic clock
        self._waiting: set[_Key] = set()
        self._pause = threading.Event()
        self._running = False

    def is_verified(self, caller: Identity) -> bool:
        """Return whether this process has verified the caller's key within about the last minute."""
        return caller.key in self._written

    def note(self, caller: Identity) -> None:
        """Record a use of the caller's verified key, if the caller has one. Does not wait."""
        if caller.key is None:
            return
        record_api_key_request("accepted")
        key, now = (caller.user_id, caller.key.id), time.monotonic()
        with self._lock:
            if now - self._written.get(caller.key, -WRITE_INTERVAL) < WRITE_INTERVAL:
                return
            self._written[caller.key] = now
            self._waiting.add(key)
            if not self._running:
                self._running = True
                threading.Thread(target=self._write_later, name="api key uses", daemon=True).start()

    def _write_later(self) -> None:
        while True:
            self._pause.wait(BATCH_SECONDS)
            with self._lock:
                keys, self._waiting = self._waiting, set()
                oldest = time.monotonic() - WRITE_INTERVAL
                self._written = {key: used_at for key, used_at in self._written.items() if used_at > oldest}
                if not keys:
                    self._running = False
                    return
            try:
                self._write(keys)
            except SQLAlchemyError as error:
                # No retry: the next use after a minute is written.
                _log.warning("the last uses of %d API keys were not written: %s", len(keys), type(error).__name__)

    def _write(self, keys: set[_Key]) -> None:
        user_ids, key_ids = zip(*keys, strict=True)
        with self._engine.connect() as connection:
            # Half the interval: a write of another process nearly a minute ago must not suppress this one.
            sql.TOUCH.all(
                connection, {"user_ids": list(user_ids), "key_ids": list(key_ids), "seconds": WRITE_INTERVAL / 2}
            )
