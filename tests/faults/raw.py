"""HTTP/1.1 by hand: requests that no client library would send, and what comes back."""

import contextlib
import socket
from dataclasses import dataclass

import orjson


@dataclass
class Reply:
    """What came back. `status` 0 means that the connection was closed without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_problem(self) -> bool:
        """Whether it is a whole problem of ours, in JSON."""
        if self.headers.get("content-type") != "application/problem+json":
            return False
        problem = orjson.loads(self.body)
        return problem["status"] == self.status and {"type", "title", "detail", "code", "request_id"} <= set(problem)


def exchange(port: int, request: bytes, seconds: float = 15) -> Reply:
    """Send these bytes to loopback and read one answer, at most until `seconds` without a byte."""
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as wire:
        with contextlib.suppress(OSError):  # it may answer and close before it has read all
            wire.sendall(request)
        with contextlib.suppress(OSError):
            while piece := wire.recv(65_536):
                data += piece
                if _is_whole(data, request):
                    break
    return _parse(data)


def _parse(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1."):
        return Reply(0, {}, data)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Reply(int(first.split()[1]), headers, body)


def _is_whole(data: bytes, request: bytes) -> bool:
    if b"\r\n\r\n" not in data:
        return False
    reply = _parse(data)
    if request.startswith(b"HEAD") or reply.status in (204, 304):
        return True
    if "content-length" in reply.headers:
        return len(reply.body) >= int(reply.headers["content-length"])
    return reply.body.endswith(b"0\r\n\r\n")
