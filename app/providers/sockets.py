"""urllib3 connections on which every wait, from the name look-up to the last byte, obeys the call's Deadlines.

A timeout set on a socket bounds one wait only: a peer that sends a byte now and then, in its headers or inside a line,
stretches it without end. So the waits are cut to what is left of the nearest deadline, one by one. The same code runs
in threads and, patched, under gevent.
"""

import io
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from http import HTTPStatus
from http.client import HTTPResponse
from threading import Event, Thread
from typing import Any, TypeVar

from gevent import monkey
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import wait_for_read, wait_for_write
from urllib3.util.connection import create_connection

from app.providers.deadlines import Deadlines

# urllib3 picks the connection and makes the response out of our reach: this is how the call's clock gets to them.
clock: ContextVar[Deadlines] = ContextVar("clock")

_poll = monkey.get_original("select", "poll")

# A connection whose other end vanished behind a NAT is found out while idle in the pool, not by the next chat.
_KEEP_ALIVE: list[tuple[int, int, int | bytes]] = [
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

_WAITED = 0.001  # seconds: a read that took as long has let others work meanwhile
_UNINTERRUPTED = 0.01  # seconds that reading may go on without that: gevent reads at once what is there
_MOMENT = 1e-6  # seconds; 0 is a callback for gevent, which looks at sockets and timers only after fifty of these

T = TypeVar("T")


def _tls_wait(sock: ssl.SSLSocket, deadlines: Deadlines, step: Callable[[], T]) -> T:
    """Do `step` on a socket that does not block, waiting as TLS asks for it.

    With a timeout on the socket the ssl module of gevent would wait that long for every single packet of a record.
    """
    sock.settimeout(0)
    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            wait_for_read(sock, deadlines.left())
        except ssl.SSLWantWriteError:
            wait_for_write(sock, deadlines.left())


class _Receiver(io.RawIOBase):
    """What comes in, each read allowed only the time that is left."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, deadlines: Deadlines) -> None:
        self._sock, self._raw, self._deadlines = sock, raw, deadlines
        self._gave_way = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """A peer that sends faster than we read must not hold up everything else of the process."""
        asked = time.monotonic()
        try:
            return self._receive(buffer)
        finally:
            now = time.monotonic()
            if now - asked >= _WAITED:
                self._gave_way = now
            elif now - self._gave_way >= _UNINTERRUPTED:
                time.sleep(_MOMENT)
                self._gave_way = time.monotonic()

    def _receive(self, buffer: Any) -> int | None:
        left = self._deadlines.left()
        if isinstance(self._sock, ssl.SSLSocket):
            return _tls_wait(self._sock, self._deadlines, lambda: self._raw.readinto(buffer))
        self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            raise self._deadlines.passed() from None

    def close(self) -> None:
        if not self.closed:  # from here on the connection may be somebody else's
            self._deadlines.hangup.detach()
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        # Made before the headers are read: whoever waits for them, or for anything after, can be hung up on.
        clock.get().hangup.attach(partial(_cut, sock))
        self.fp = io.BufferedReader(_Receiver(sock, self.fp.detach(), clock.get()))

    def _read_status(self) -> tuple[str, int, str]:
        """Every interim answer is as good as the one that Python knows how to skip (RFC 9110, section 15.2)."""
        version, status, reason = super()._read_status()  # type: ignore[misc]  # the stubs do not know it
        interim = HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK
        return version, HTTPStatus.CONTINUE if interim else status, reason


def _cut(sock: socket.socket) -> None:
    """Wake whoever reads from `sock`. Below TLS, whose state belongs to the thread that reads."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _TlsContext(ssl.SSLContext):
    """Verifies certificate and host name against the system's authorities, or those that SSL_CERT_FILE names."""

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        deadlines = clock.get()
        wrapped = super().wrap_socket(sock, *arguments, **{**named, "do_handshake_on_connect": False})
        try:
            _tls_wait(wrapped, deadlines, wrapped.do_handshake)
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def _look_up(host: str, port: int, deadlines: Deadlines) -> list[Any]:
    """The addresses of `host`. getaddrinfo knows no timeout, so it gets a thread of its own that may be left behind."""
    with suppress(socket.gaierror):  # an address needs no look-up
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    answer: list[list[Any]] = []
    failure: list[OSError | UnicodeError] = []
    done = Event()

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failure.append(error)
        finally:
            done.set()

    Thread(target=ask, name="look-up", daemon=True).start()
    if not done.wait(deadlines.left()):
        raise deadlines.passed()
    if failure:
        raise failure[0]
    return answer[0]


def _dial(host: str, port: int, deadlines: Deadlines) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time that is left."""
    failure: OSError = socket.gaierror("the name has no address")
    addresses = _look_up(host, port, deadlines)
    for index, (*_, address) in enumerate(addresses):
        share = deadlines.left() / (len(addresses) - index)
        try:
            return create_connection(address[:2], share, socket_options=_KEEP_ALIVE)
        except OSError as error:
            failure = error
    if isinstance(failure, TimeoutError):
        raise deadlines.passed()
    raise failure


class _Connection(HTTPConnection):
    response_class = _Response

    @property
    def is_connected(self) -> bool:
        """Whether the other end has not hung up: asked of each connection that is used again, and waits for nothing.

        urllib3's own look goes through gevent's poll, which takes forty times as long.
        """
        if self.sock is None:
            return False
        look = _poll()
        look.register(self.sock.fileno(), select.POLLIN)
        return not look.poll(0)

    def _new_conn(self) -> socket.socket:
        return _dial(self.host, self.port, clock.get())

    def connect(self) -> None:
        deadlines = clock.get()
        deadlines.connecting()
        super().connect()
        deadlines.answering()
        self.sock.settimeout(deadlines.left())  # for sending: Python counts it for the whole of a sendall


class _TlsConnection(_Connection, HTTPSConnection):
    def send(self, data: Any) -> None:
        """sendall of a TLS socket counts its timeout for each record; this counts it for the whole."""
        if not isinstance(self.sock, ssl.SSLSocket) or not isinstance(data, bytes):
            super().send(data)  # the headers of a new connection: connects first
            return
        sock, rest = self.sock, memoryview(data)
        while rest:
            rest = rest[_tls_wait(sock, clock.get(), partial(sock.send, rest)) :]


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def open_pool(scheme: str, host: str, port: int | None, *, kept: int) -> HTTPConnectionPool:
    """A pool for one origin: as many connections as are asked for at once, up to `kept` of them kept for the next."""
    if scheme == "http":
        return _Pool(host, port, maxsize=kept, block=False)
    tls = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_default_certs()
    return _TlsPool(host, port, maxsize=kept, block=False, ssl_context=tls)
