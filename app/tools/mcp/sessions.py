"""The sessions of users at one MCP server of the older era."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from app.tools.mcp.errors import McpError
from app.tools.mcp.requests import Session

MAX_SESSIONS: Final = 1000  # users with a session; above it, the one that was used longest ago is dropped


@dataclass(slots=True)
class Entry:
    """The session of one user, None until the handshake, and the lock of the handshake."""

    session: Session | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """At most `MAX_SESSIONS` sessions by user. Thread-safe."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def of(self, user: str, until: float) -> Iterator[Entry]:
        """Yield the entry of `user`; without a session, one thread at a time. Raises `McpError` after `until`."""
        with self._lock:
            entry = self._entries.setdefault(user, Entry())
            self._entries.move_to_end(user)
            if len(self._entries) > MAX_SESSIONS:
                self._entries.popitem(last=False)
        if entry.session is not None:
            yield entry
            return
        if not entry.lock.acquire(timeout=max(0.0, until - monotonic())):
            raise McpError("did not finish the handshake of another call in time", network=True)
        try:
            yield entry
        finally:
            entry.lock.release()

    def forget(self, user: str, session: Session) -> None:
        """Drop the session of `user`, unless another thread has replaced it."""
        with self._lock:
            entry = self._entries.get(user)
            if entry is not None and entry.session == session:
                del self._entries[user]
