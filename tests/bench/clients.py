"""Cheap HTTP clients: requests are prepared before the measurement, and responses are only counted."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import orjson

DELTA = b"event: message.delta\n"
COMPLETED = b"event: turn.completed\n"


@dataclass
class Result:
    """The response to one request. Times are seconds since the request, None if it did not get that far."""

    first_delta: float | None = None
    ended: float | None = None
    deltas: int = 0
    completed: bool = False
    status: bytes = b""


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, closed: asyncio.Future[None]) -> None:
        self._request, self._closed = request, closed
        self.result = Result()
        self.started = 0.0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        result = self.result
        if not result.status:
            result.status = data[9:12]
        data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        events, self._rest = data[:end], data[end:] if end > 1 else data
        result.deltas += events.count(DELTA)
        if result.first_delta is None and result.deltas:
            result.first_delta = time.perf_counter() - self.started
        result.completed = result.completed or COMPLETED in events

    def connection_lost(self, error: Exception | None) -> None:
        self.result.ended = time.perf_counter() - self.started
        if not self._closed.done():
            self._closed.set_result(None)


def chat_request(token: str, port: int, *, stream: bool, message: str = "hello") -> bytes:
    """Return the bytes of one POST /api/chat."""
    body = orjson.dumps({"message": message, "stream": stream})
    return (
        f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def send_all(port: int, requests: Sequence[bytes], within: float) -> list[Result]:
    """Send each request on a new connection, evenly spread over `within` seconds, and read all responses."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def send(number: int, request: bytes) -> Result:
        await asyncio.sleep(max(0.0, began + within * number / len(requests) - loop.time()))
        closed = loop.create_future()
        client = _Client(request, closed)
        client.started = time.perf_counter()
        try:
            await loop.create_connection(lambda: client, "127.0.0.1", port)
            await closed
        except OSError:
            pass
        return client.result

    return list(await asyncio.gather(*(send(number, request) for number, request in enumerate(requests))))
