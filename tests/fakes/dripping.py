"""A slow network: forwards bytes to a server on loopback, and its response one byte at a time."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class DrippingProxy:
    """A proxy for one connection. Delays each byte of the response after `fast_bytes` by `pause`."""

    def __init__(self, port: int, *, fast_bytes: int = 0, pause: float = 0.02) -> None:
        self._target, self._fast_bytes, self._pause = port, fast_bytes, pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._run, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for sock in [self._listener, *self._sockets]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            back = threading.Thread(target=self._drip, args=(server, client), daemon=True)
            self._threads.append(back)
            back.start()
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _drip(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data[: self._fast_bytes])
                rest, self._fast_bytes = data[self._fast_bytes :], max(0, self._fast_bytes - len(data))
                for byte in rest:
                    if self._stop.wait(self._pause):
                        return
                    client.sendall(bytes([byte]))
