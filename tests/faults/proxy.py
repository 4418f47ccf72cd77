"""A wire to PostgreSQL that can be cut, silenced and mended: a TCP proxy on loopback."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from ops.embedded import ports

PIECE = 65_536


class Proxy:
    """Passes connections on to `target`. The port stays the same, whatever happens to the wire."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._silent = False
        self._cut_after: bytes | None = None
        self._listener: socket.socket | None = None
        self._pairs: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = ports.choose(0)  # below those that systems give away, so that it is still free when it mends
        self.mend()

    def mend(self) -> None:
        """Accept and pass on."""
        self._silent = False
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Close every connection, and refuse new ones: the server is down."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._close_all()

    def silence(self) -> None:
        """Accept connections and never answer; those there are, are cut: a black hole."""
        self._silent = True
        self._close_all()

    def drop(self) -> None:
        """Close every connection; new ones are passed on."""
        self._close_all()

    def cut_after(self, words: bytes) -> None:
        """Let the next query with these words reach the server, wait for its answer, and cut instead of passing it."""
        self._cut_after = words

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def _close_all(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for end in pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                with self._lock:
                    self._pairs.add(near)
                if not self._silent:
                    self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target)
        except OSError:  # the server itself is down
            near.close()
            return
        with self._lock:
            self._pairs.add(far)
        doomed = threading.Event()
        for source, sink, asks in ((near, far, True), (far, near, False)):
            threading.Thread(target=self._pass_on, args=(source, sink, asks, doomed), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, asks: bool, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                if asks and self._cut_after is not None and self._cut_after in piece:
                    self._cut_after = None
                    doomed.set()
                if not asks and doomed.is_set():
                    break
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
