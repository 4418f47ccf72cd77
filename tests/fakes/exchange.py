"""A connection to the fake upstream, and one request and response on it."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, cast


class Disconnected(Exception):
    """The client has disconnected."""


class Connection(asyncio.Protocol):
    """A client's connection: reads HTTP/1.1 requests and passes each to `spawn` as an Exchange."""

    def __init__(
        self,
        connected: Callable[["Connection"], int],
        lost: Callable[["Connection"], None],
        spawn: Callable[["Exchange"], None],
    ) -> None:
        self._connected, self._lost, self._spawn = connected, lost, spawn
        self._received = b""
        self.busy = False
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.number = self._connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set()
        self.writable.set()
        self._lost(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next_request()

    def _next_request(self) -> None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if self.busy or not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self.busy, self._received = True, rest[length:]
        self._spawn(Exchange(self, method, path, headers, rest[:length]))

    def answered(self, *, keep: bool) -> None:
        if not keep:
            self.transport.close()
            return
        self.busy = False
        self._next_request()

    def abort(self) -> None:
        """Abort the connection: the client sees a reset."""
        with contextlib.suppress(OSError):
            plain = self.transport.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Exchange:
    """One request and its response by a script. All methods raise Disconnected after the client has disconnected."""

    def __init__(self, connection: Connection, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.connection, self.method, self.path, self.headers, self.body = connection, method, path, headers, body
        self._chunked = False
        self._keep = False

    def json(self) -> Any:
        """Return the body of the request, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    async def write(self, data: bytes) -> None:
        """Write bytes unchanged."""
        if self.connection.gone.is_set():
            raise Disconnected
        self.connection.transport.write(data)
        await self.connection.writable.wait()

    async def head(
        self,
        status: int = 200,
        content_type: str | None = "text/event-stream; charset=utf-8",
        *,
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send the status line and headers. Without a `length` the body is sent in HTTP chunks."""
        fields = {"Content-Type": content_type} if content_type else {}
        self._chunked = length is None
        fields |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        fields |= headers or {}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {fields[name]}" for name in fields)]
        await self.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        if data:
            await self.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def event(self, payload: Any) -> None:
        """Send a server-sent event with `payload` as JSON."""
        await self.send(b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n")

    async def end(self) -> None:
        """End the body, and keep the connection for the next request."""
        if self._chunked:
            await self.write(b"0\r\n\r\n")
        self._keep = True

    async def pause(self, seconds: float | None) -> None:
        """Wait, forever if None, until the client disconnects at the latest."""
        if seconds == 0 and not self.connection.gone.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.connection.gone.wait(), seconds)
        if self.connection.gone.is_set():
            raise Disconnected

    def finished(self) -> None:
        if not self.connection.gone.is_set():
            self.connection.answered(keep=self._keep)


Script = Callable[[Exchange], Awaitable[None]]
