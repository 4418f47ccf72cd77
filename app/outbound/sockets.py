"""urllib3 connections on which every wait, from the name look-up to the last byte, obeys the call's Deadlines.

A socket timeout bounds one wait only: a server that sends a byte now and then, in its headers or inside a line, extends
it without end. So each wait is limited to the remaining time of the nearest deadline. The same code runs in threads
and, patched, under gevent.
"""

import io
import select
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPResponse
from threading import Event, Thread
from typing import Any, TypeVar

from urllib3.connection import HTTPConnection
from urllib3.util import wait_for_read, wait_for_write
from urllib3.util.connection import create_connection

from app.outbound.addresses import AddressPolicy
from app.outbound.deadlines import Deadlines
from app.outbound.yielding import Yielder
from app.polling import has_event

# With keep-alive a connection whose other end vanished behind a NAT is detected while idle, not by the next call.
_SOCKET_OPTIONS: list[tuple[int, int, int | bytes]] = [
    (getattr(socket, level), getattr(socket, name), value)
    for level, name, value in (
        ("IPPROTO_TCP", "TCP_NODELAY", 1),
        ("SOL_SOCKET", "SO_KEEPALIVE", 1),
        ("IPPROTO_TCP", "TCP_KEEPIDLE", 30),
        ("IPPROTO_TCP", "TCP_KEEPINTVL", 10),
        ("IPPROTO_TCP", "TCP_KEEPCNT", 3),
    )
    if hasattr(socket, name)  # macOS has no TCP_KEEPIDLE
]

_WAITED_SECONDS = 0.001  # a read that took this long has let other greenlets run

T = TypeVar("T")


def _tls_wait(sock: ssl.SSLSocket, deadlines: Deadlines, step: Callable[[], T]) -> T:
    """Run `step` on a non-blocking socket, waiting as TLS requires.

    With a timeout on the socket, gevent's ssl module would allow that timeout for each packet of a record.
    """
    sock.settimeout(0)
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            wait_for_read(sock, deadlines.remaining())
        except ssl.SSLWantWriteError:
            wait_for_write(sock, deadlines.remaining())


class _Receiver(io.RawIOBase):
    """The received bytes, each read limited to the remaining time."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadlines: Deadlines) -> None:
        self._sock, self._raw, self._deadlines = sock, raw, deadlines
        self._yielder = Yielder()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is available, and yield to other greenlets if a fast server never makes the read wait."""
        started = time.monotonic()
        try:
            return self._receive(buffer)
        finally:
            if time.monotonic() - started >= _WAITED_SECONDS:
                self._yielder.waited()
            self._yielder.step()

    def _receive(self, buffer: Any) -> int | None:
        remaining = self._deadlines.remaining()
        if isinstance(self._sock, ssl.SSLSocket):
            return _tls_wait(self._sock, self._deadlines, lambda: self._raw.readinto(buffer))
        self._sock.settimeout(remaining)
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            raise self._deadlines.exceeded() from None

    def close(self) -> None:
        if not self.closed:  # afterwards the connection may belong to another call
            self._deadlines.cancel_token.detach()
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, deadlines: Deadlines, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        # Before the headers are read, so that the call can be cancelled while it waits for them.
        deadlines.cancel_token.attach(partial(_shut_down, sock))
        self.fp = io.BufferedReader(_Receiver(sock, self.fp.detach(), deadlines))

    def _read_status(self) -> tuple[str, int, str]:
        """Read the status line. Each interim response counts as the one that Python skips (RFC 9110, section 15.2)."""
        version, status, reason = super()._read_status()  # type: ignore[misc]  # missing in the stubs
        interim = HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK
        return version, HTTPStatus.CONTINUE if interim else status, reason


def _shut_down(sock: socket.socket) -> None:
    """Wake the thread that reads from `sock`: below TLS, whose state belongs to that thread."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _look_up(host: str, port: int, deadlines: Deadlines) -> list[Any]:
    """Return the addresses of `host`. getaddrinfo has no timeout, so it runs in a thread that may be left behind."""
    with suppress(socket.gaierror):  # an address needs no look-up
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    addresses: list[list[Any]] = []
    failure: list[OSError | UnicodeError] = []
    resolved = Event()

    def look_up() -> None:
        try:
            addresses.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failure.append(error)
        finally:
            resolved.set()

    Thread(target=look_up, name="look-up", daemon=True).start()
    if not resolved.wait(deadlines.remaining()):
        raise deadlines.exceeded()
    if failure:
        raise failure[0]
    return addresses[0]


def _dial(host: str, port: int, deadlines: Deadlines, policy: AddressPolicy | None) -> socket.socket:
    """Connect to the first address that accepts. Each gets an equal share of the remaining time.

    The addresses are those that `policy` has checked; no name is looked up again.
    """
    failure: OSError = socket.gaierror("the name has no address")
    addresses = _look_up(host, port, deadlines)
    if policy is not None:
        policy.check(host, [str(address[0]) for *_, address in addresses])
    for index, (*_, address) in enumerate(addresses):
        share = deadlines.remaining() / (len(addresses) - index)
        try:
            return create_connection(address[:2], share, socket_options=_SOCKET_OPTIONS)
        except OSError as error:
            failure = error
    if isinstance(failure, TimeoutError):
        raise deadlines.exceeded()
    raise failure


class Connection(HTTPConnection):
    """A connection to one server, used by one call after the other. Set `deadlines` before each."""

    deadlines: Deadlines

    def __init__(self, host: str, port: int | None, policy: AddressPolicy | None = None) -> None:
        super().__init__(host, port)
        self._policy = policy

    def begin(self, deadlines: Deadlines) -> None:
        """Start a call, and connect if the connection is new or was closed."""
        self.deadlines = deadlines
        self.response_class = partial(_Response, deadlines=deadlines)  # type: ignore[assignment]  # called, no more
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
        self.sock = _dial(self.host, self.port, self.deadlines, self._policy)


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
        _tls_wait(sock, self.deadlines, sock.do_handshake)

    def send(self, data: Any) -> None:
        """Send all of `data` within the deadline. sendall of a TLS socket applies its timeout to each record."""
        assert isinstance(self.sock, ssl.SSLSocket)  # noqa: S101  # since `connect`
        sock, rest = self.sock, memoryview(data)
        while rest:
            rest = rest[_tls_wait(sock, self.deadlines, partial(sock.send, rest)) :]


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
