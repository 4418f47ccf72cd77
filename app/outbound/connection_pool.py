"""The idle connections to one server."""

import ssl
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from app.outbound.addresses import AddressPolicy
from app.outbound.sockets import Connection, TlsConnection


def _close_all(connections: deque[Connection]) -> None:
    for connection in connections:
        connection.close()


class ConnectionPool:
    """The idle connections to one server, at most `max_idle`; the number of busy ones is not limited.

    `policy` checks the addresses of the host before each connection.
    """

    def __init__(
        self, scheme: str, host: str, port: int | None, *, max_idle: int, policy: AddressPolicy | None = None
    ) -> None:
        self._idle: deque[Connection] = deque()
        self._max_idle = max_idle
        weakref.finalize(self, _close_all, self._idle)
        if scheme == "http":
            self._new: Callable[[], Connection] = partial(Connection, host, port, policy)
        else:
            # The authorities of the system, or those of SSL_CERT_FILE.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.set_alpn_protocols(["http/1.1"])
            context.load_default_certs()
            self._new = partial(TlsConnection, host, port, policy, context=context)

    def get(self) -> Connection:
        """Return the connection that was used last, if it is still connected, else a new one, not connected yet."""
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                connection = self._idle.pop()
                if connection.is_connected:
                    return connection
                connection.close()
        return self._new()

    def put(self, connection: Connection) -> None:
        """Keep a connection whose response was read completely; close it if there are enough."""
        if connection.sock is None:  # the server asked to close it
            return
        if len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            connection.close()
