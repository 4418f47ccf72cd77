"""A cheap provider, whose response bytes are prepared before the first request.

python -m tests.bench.provider PIECES PAUSE

Answers each request with PIECES pieces of text, PAUSE seconds apart, starting at once. Prints its base URL.
"""

import asyncio
import json
import sys
from typing import cast

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": [choice]}
    data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


FIRST = HEAD + _event({"role": "assistant", "content": ""})
PIECE = _event({"content": "word "})
DONE = b"data: [DONE]\n\n"
LAST = _event({}, "stop") + b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE)


class Connection(asyncio.Protocol):
    """One connection, which answers one request after the other."""

    def __init__(self, pieces: int, pause: float) -> None:
        self._pieces, self._pause = pieces, pause
        self._received = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer once a request has arrived completely."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        self._received = body[length:]
        if self._pause:
            self._transport.write(FIRST + PIECE)
            self._loop.call_later(self._pause, self._send_piece, self._pieces - 1)
        else:
            self._transport.write(FIRST + PIECE * self._pieces + LAST)

    def _send_piece(self, remaining: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(PIECE if remaining else LAST)
        if remaining:
            self._loop.call_later(self._pause, self._send_piece, remaining - 1)


async def serve(pieces: int, pause: float) -> None:
    """Print the base URL and serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(pieces, pause), "127.0.0.1", 0, backlog=2048
    )
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
