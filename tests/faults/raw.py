"""HTTP/1.1 over a plain socket, for requests that no client library sends."""

import contextlib
import socket
from dataclasses import dataclass

import orjson


@dataclass
class Reply:
    """One response. `status` 0 means that the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_problem(self) -> bool:
        """Whether the body is one of Parley's problem documents, with all its fields."""
        if self.headers.get("content-type") != "application/problem+json":
            return False
        problem = orjson.loads(self.body)
        return problem["status"] == self.status and {"type", "title", "detail", "code", "request_id"} <= set(problem)


def exchange(port: int, request: bytes, seconds: float = 15) -> Reply:
    """Send `request` to a port on loopback and read one response, at most until `seconds` pass without a byte."""
    data = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):  # the server may respond and close before it has read everything
            connection.sendall(request)
        with contextlib.suppress(OSError):
            while received := connection.recv(65_536):
                data += received
                if _is_complete(data, request):
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


def _is_complete(data: bytes, request: bytes) -> bool:
    if b"\r\n\r\n" not in data:
        return False
    reply = _parse(data)
    if request.startswith(b"HEAD") or reply.status in (204, 304):
        return True
    if "content-length" in reply.headers:
        return len(reply.body) >= int(reply.headers["content-length"])
    return reply.body.endswith(b"0\r\n\r\n")
