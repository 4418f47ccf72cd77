"""A fake connection pooler for PostgreSQL that works like PgBouncer.

It supports the simple query protocol, the only one that psycopg2 uses, accepts each client, and ignores startup
options, as PgBouncer does with `ignore_startup_parameters = options`.
"""

import contextlib
import os
import socket
import struct
import threading
from types import TracebackType
from typing import Self

import psycopg2

SSL, GSS, CANCEL = 80877103, 80877104, 80877102
SERVER_PARAMETERS = {
    b"server_version": b"15.0",
    b"client_encoding": b"UTF8",
    b"DateStyle": b"ISO, MDY",
    b"standard_conforming_strings": b"on",
    b"integer_datetimes": b"on",
}


class Pooler:
    """The pooler. With `transaction` a client gets a server connection per transaction, else until it disconnects."""

    def __init__(self, server: str, *, transaction: bool) -> None:
        self._server, self._transaction = server, transaction
        self._idle: list[socket.socket] = []
        self._servers: list[socket.socket] = []
        self._logins: list[psycopg2.extensions.connection] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for server in self._servers:
                server.close()
            for login in self._logins:
                login.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: socket.socket | None = None
        with client, contextlib.suppress(OSError, struct.error, psycopg2.Error):  # one of the three has disconnected
            if not _greet(client):
                return
            while (kind := client.recv(1)) not in (b"", b"X"):
                (length,) = struct.unpack("!i", _exactly(client, 4))
                server = server or self._borrow()
                server.sendall(kind + struct.pack("!i", length) + _exactly(client, length - 4))
                if _relay(server, client) == b"I" and self._transaction:
                    server = self._give_back(server)
        if server is not None:
            self._give_back(server)

    def _borrow(self) -> socket.socket:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            login = psycopg2.connect(self._server)  # for the login; the socket is used afterwards
            self._logins.append(login)
            self._servers.append(socket.socket(fileno=os.dup(login.fileno())))
            return self._servers[-1]

    def _give_back(self, server: socket.socket) -> None:
        with self._lock:
            self._idle.append(server)


def _greet(client: socket.socket) -> bool:
    """Complete the startup of a client, and return whether it continues."""
    while True:
        (length,) = struct.unpack("!i", _exactly(client, 4))
        (code,) = struct.unpack("!i", _exactly(client, length - 4)[:4])
        if code == CANCEL:
            return False
        if code not in (SSL, GSS):
            break
        client.sendall(b"N")
    client.sendall(_message(b"R", struct.pack("!i", 0)))
    for name, value in SERVER_PARAMETERS.items():
        client.sendall(_message(b"S", name + b"\0" + value + b"\0"))
    client.sendall(_message(b"K", struct.pack("!ii", 999_999_999, 1)) + _message(b"Z", b"I"))
    return True


def _relay(server: socket.socket, client: socket.socket) -> bytes:
    """Forward a response, and return the transaction status at its end."""
    server.setblocking(True)
    while True:
        head = _exactly(server, 5)
        body = _exactly(server, struct.unpack("!i", head[1:])[0] - 4)
        client.sendall(head + body)
        if head[:1] == b"Z":
            return body


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _exactly(source: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = source.recv(length - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return data
