"""The response of a call: each read is limited to the remaining time, and a cancellation ends it."""

import io
import socket
import ssl
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any

from app.outbound.deadlines import Deadlines
from app.outbound.tls import tls_wait
from app.outbound.yielding import Yielder

_WAITED_SECONDS = 0.001  # a read that took this long has let other greenlets run


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
            return tls_wait(self._sock, self._deadlines, lambda: self._raw.readinto(buffer))
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


class Response(HTTPResponse):
    """A response whose reads obey `deadlines`."""

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
