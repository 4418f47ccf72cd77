"""Callers that cost next to nothing: requests that are ready before the clock starts, answers that are only counted."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import orjson

DELTA = b"event: message.delta\n"
COMPLETED = b"event: turn.completed\n"


@dataclass
class Heard:
    """What one caller heard. Times are seconds since he asked; None if it never came."""

    first_token: float | None = None
    ended: float | None = None
    pieces: int = 0
    completed: bool = False
    status: bytes = b""


class _Caller(asyncio.Protocol):
    def __init__(self, request: bytes, over: asyncio.Future[None]) -> None:
        self._request, self._over = request, over
        self.heard = Heard()
        self.asked = 0.0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        heard = self.heard
        if not heard.status:
            heard.status = data[9:12]
        data = self._rest + data
        cut = data.rfind(b"\n\n") + 2  # whole events only
        whole, self._rest = data[:cut], data[cut:] if cut > 1 else data
        heard.pieces += whole.count(DELTA)
        if heard.first_token is None and heard.pieces:
            heard.first_token = time.perf_counter() - self.asked
        heard.completed = heard.completed or COMPLETED in whole

    def connection_lost(self, error: Exception | None) -> None:
        self.heard.ended = time.perf_counter() - self.asked
        if not self._over.done():
            self._over.set_result(None)


def chat(token: str, port: int, *, stream: bool, message: str = "hello") -> bytes:
    """The bytes of one POST /api/chat."""
    body = orjson.dumps({"message": message, "stream": stream})
    return (
        f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def listen(port: int, requests: Sequence[bytes], within: float) -> list[Heard]:
    """Send each request on a connection of its own, spread evenly over `within` seconds, and read all to their end."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(place: int, request: bytes) -> Heard:
        await asyncio.sleep(max(0.0, began + within * place / len(requests) - loop.time()))
        over = loop.create_future()
        caller = _Caller(request, over)
        caller.asked = time.perf_counter()
        try:
            await loop.create_connection(lambda: caller, "127.0.0.1", port)
            await over
        except OSError:
            pass
        return caller.heard

    return list(await asyncio.gather(*(one(place, request) for place, request in enumerate(requests))))
