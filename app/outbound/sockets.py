"""urllib3 connections on which every wait, from the name look-up to the last byte, obeys the call's Deadlines.

A socket timeout bounds one wait only: a server that sends a byte now and then, in its headers or inside a line, extends
it without end. So each wait is limited to the remaining time of the nearest deadline. The same code runs in threads
and, patched, under gevent.
"""

import select
import ssl
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection

from app.outbound.addresses import AddressPolicy
from app.outbound.deadlines import Deadlines
from app.outbound.dialing import dial
from app.outbound.response import Response
from app.outbound.tls import tls_wait
from app.polling import has_event


class Connection(HTTPConnection):
    """A connection to one server, used by one call after the other. Set `deadlines` before each."""

    deadlines: Deadlines

    def __init__(self, host: str, port: int | None, policy: AddressPolicy | None = None) -> None:
        super().__init__(host, port)
        self._policy = policy

    def begin(self, deadlines: Deadlines) -> None:
        """Start a call, and connect if the connection is new or was closed."""
        self.deadlines = deadlines
        self.response_class = partial(Response, deadlines=deadlines)  # type: ignore[assignment]  # called, no more
        if self.sock is None:
            deadlines.expect_connection()
            self.connect()
            deadlines.expect_first_event()
        self.timeout = deadlines.remaining()  # for sending: a socket applies it to a complete sendall

    @property
    def is_connected(self) -> bool:
        """Whether the server has not closed the connection. Does not wait.

        urllib3 uses gevent's poll, which takes forty times as long.
        """
        if self.sock is None:
            return False
        return not has_event(self.sock.fileno(), select.POLLIN)

    def connect(self) -> None:
        """Connect within the deadline, to a checked address. There is no proxy."""
        self.sock = dial(self.host, self.port, self.deadlines, self._policy)


class TlsConnection(Connection):
    """The same over TLS. Verifies certificate and host name by `context`."""

    default_port = 443  # type: ignore[misc]  # as urllib3 itself overrides it

    def __init__(
        self, host: str, port: int | None, policy: AddressPolicy | None = None, *, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, policy)
        self._context = context

    def connect(self) -> None:
        super().connect()
        sock = self._context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self.sock = sock
        tls_wait(sock, self.deadlines, sock.do_handshake)

    def send(self, data: Any) -> None:
        """Send all of `data` within the deadline. sendall of a TLS socket applies its timeout to each record."""
        assert isinstance(self.sock, ssl.SSLSocket)  # noqa: S101  # since `connect`
        sock, rest = self.sock, memoryview(data)
        while rest:
            rest = rest[tls_wait(sock, self.deadlines, partial(sock.send, rest)) :]
