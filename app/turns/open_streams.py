"""The event streams that callers read from this process; each ends with the caller's session or API key."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from uuid import UUID

from sqlalchemy import Connection

from app.repositories.turn_caller import LIVE
from app.services.identity import Identity
from app.turns.event_buffer import Reader, TurnEvent, TurnEventBuffer
from app.turns.subscription import Subscription

_Caller = tuple[UUID, UUID]  # user id and the id of the session or API key


class OpenStreams:
    """The open streams of one process. Thread-safe. `on_open` is called after each new stream."""

    def __init__(self) -> None:
        self.on_open: Callable[[], None] = lambda: None
        self._readers: defaultdict[_Caller, list[tuple[TurnEventBuffer, Reader]]] = defaultdict(list)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._readers)

    def read(self, caller: Identity, subscription: Subscription, ping_interval: float) -> Iterator[list[TurnEvent]]:
        """Yield the events of `subscription` until the last one, or until `stop_ended` stops the stream."""
        key, entry = (caller.user_id, caller.credential_id), (subscription.stream.events, Reader())
        with self._lock:
            self._readers[key].append(entry)
        self.on_open()
        try:
            yield from subscription.events(ping_interval, entry[1])
        finally:
            with self._lock:
                self._readers[key].remove(entry)
                if not self._readers[key]:
                    del self._readers[key]

    def stop_ended(self, connection: Connection) -> None:
        """Stop the streams of callers whose session or API key has ended, by one statement in AUTOCOMMIT."""
        with self._lock:
            callers = list(self._readers)
        parameters = {
            "user_ids": [user_id for user_id, _ in callers],
            "credential_ids": [credential_id for _, credential_id in callers],
        }
        live = {(row.user_id, row.credential_id) for row in LIVE.all(connection, parameters)}
        with self._lock:
            ended = [entry for caller in callers if caller not in live for entry in self._readers.get(caller, ())]
        for buffer, reader in ended:
            buffer.stop(reader)
