"""The connections of a web worker from which a request, or the rest of one, is awaited.

A worker serves a bounded number of connections. Clients that send only a part of a request could occupy all of them, so
their number is bounded: for each address, and together. Above a bound, the one that has been awaited longest is closed.
A request that arrives at once is therefore served, also from an address that has many half-sent ones.
"""

import select
import socket
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from app.polling import has_event

MAX_AWAITED = 200  # connections of a worker, idle ones included; gunicorn closes an idle one after `keepalive` seconds
MAX_AWAITED_PER_ADDRESS = 100


@dataclass(eq=False, slots=True)
class Connection:
    """One connection. `address` is None if it comes from a trusted proxy, which forwards the requests of many."""

    sock: socket.socket
    address: str | None

    def has_input(self) -> bool:
        """Return whether bytes have arrived that its greenlet has not read yet."""
        try:
            return has_event(self.sock.fileno(), select.POLLIN)
        except (OSError, ValueError):  # it was closed
            return True

    def end_input(self) -> None:
        """End what is read from it: its greenlet then answers, or closes it."""
        with suppress(OSError):
            # Not the method of gevent, which makes the waiting greenlet fail instead.
            self.sock._sock.shutdown(socket.SHUT_RD)  # type: ignore[attr-defined]


class AwaitedConnections:
    """The awaited connections of one worker. For the greenlets of one thread."""

    def __init__(self, limit: int = MAX_AWAITED, limit_per_address: int = MAX_AWAITED_PER_ADDRESS) -> None:
        self._limit, self._limit_per_address = limit, limit_per_address
        self._awaited: OrderedDict[Connection, None] = OrderedDict()  # the one awaited longest first
        self._by_address: Counter[str] = Counter()

    @contextmanager
    def awaiting(self, connection: Connection) -> Iterator[None]:
        """Count `connection` during the block, which waits for its input."""
        if connection in self._awaited:  # the next request is awaited, and the rest of a body is read before it
            yield
            return
        self._add(connection)
        try:
            yield
        finally:
            self._remove(connection)

    def receive_counted(self, connection: Connection, unreader: Any) -> None:
        """Count `connection` during each later read of gunicorn's `unreader`: that is, while a body is awaited."""
        receive = unreader.chunk

        def chunk(size_hint: int | None = None) -> bytes:
            with self.awaiting(connection):
                data: bytes = receive(size_hint)
            return data

        unreader.chunk = chunk

    def _add(self, connection: Connection) -> None:
        self._awaited[connection] = None
        address = connection.address
        if address is not None:
            self._by_address[address] += 1
            if self._by_address[address] > self._limit_per_address:
                self._end_oldest(address)
        if len(self._awaited) > self._limit:
            self._end_oldest(None)

    def _remove(self, connection: Connection) -> None:
        if connection not in self._awaited:
            return
        del self._awaited[connection]
        if connection.address is not None:
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]

    def _end_oldest(self, address: str | None) -> None:
        """End the input of the connection that has been awaited longest, of all or of one address."""
        for connection in self._awaited:
            if address in (None, connection.address) and not connection.has_input():
                self._remove(connection)
                connection.end_input()
                return
