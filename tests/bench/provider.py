"""A provider that costs next to nothing: streams whose bytes are ready before anybody asks for them.

python -m tests.bench.provider PIECES PAUSE

Answers each request with PIECES pieces of text, PAUSE seconds apart, the first of them at once. Prints its base URL.
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


class Answering(asyncio.Protocol):
    """One connection; answers one request after the other."""

    def __init__(self, pieces: int, pause: float) -> None:
        self._pieces, self._pause = pieces, pause
        self._received = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
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
            self._loop.call_later(self._pause, self._go_on, self._pieces - 1)
        else:
            self._transport.write(FIRST + PIECE * self._pieces + LAST)

    def _go_on(self, left: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(PIECE if left else LAST)
        if left:
            self._loop.call_later(self._pause, self._go_on, left - 1)


async def serve(pieces: int, pause: float) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Answering(pieces, pause), "127.0.0.1", 0, backlog=2048
    )
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
