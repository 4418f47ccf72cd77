"""A TCP proxy on loopback, whose connections to PostgreSQL or a provider can be closed, silenced and repaired."""

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

from ops.embedded import ports

BUFFER_BYTES = 65_536


class Proxy:
    """A TCP proxy to `target`. Its port stays the same through every fault."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._silent, self._delay = False, 0.0
        self._drop_reply_to: bytes | None = None
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = ports.choose_port(0)  # below the ephemeral range: still free at repair
        self.repair()

    def repair(self) -> None:
        """Accept and forward connections."""
        self._silent = False
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Close every connection and refuse new ones, as if the server was down."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._close_all()

    def black_hole(self) -> None:
        """Close every connection; accept new ones and never answer them."""
        self._silent = True
        self._close_all()

    def slow_down(self, seconds: float) -> None:
        """Hold back everything that the target sends for so long."""
        self._delay = seconds

    def drop_connections(self) -> None:
        """Close every connection; new ones are forwarded."""
        self._close_all()

    def drop_reply_to(self, query: bytes) -> None:
        """Forward the next request that contains `query`, wait for its reply, and close instead of forwarding it."""
        self._drop_reply_to = query

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def _close_all(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for end in sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with self._lock:
                    self._sockets.add(client)
                if not self._silent:
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:  # the server itself is down
            client.close()
            return
        with self._lock:
            self._sockets.add(server)
        drop_reply = threading.Event()
        for source, sink, is_request in ((client, server, True), (server, client, False)):
            threading.Thread(target=self._forward, args=(source, sink, is_request, drop_reply), daemon=True).start()

    def _forward(
        self, source: socket.socket, sink: socket.socket, is_request: bool, drop_reply: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BUFFER_BYTES):
                if is_request and self._drop_reply_to is not None and self._drop_reply_to in data:
                    self._drop_reply_to = None
                    drop_reply.set()
                if not is_request and drop_reply.is_set():
                    break
                if not is_request and self._delay:
                    time.sleep(self._delay)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
