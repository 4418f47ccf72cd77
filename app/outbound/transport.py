"""HTTP requests to one base URL over urllib3, with the response body as it arrives.

A request needs a base URL, a bearer token and a few headers. The openai package offers the same, but takes a second at
start and 16 MB of each process (docs/adr/0006-providers-over-urllib3.md).

Proxies of the environment are not used, redirects are not followed (a key must not go to another server), TLS is always
verified, and nothing is retried.
"""

from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from app.outbound.addresses import AddressPolicy
from app.outbound.connection_pool import ConnectionPool
from app.outbound.deadlines import Deadlines
from app.outbound.decoding import Decoder, decoder_of
from app.outbound.errors import OutboundError, translate
from app.outbound.sockets import Connection
from app.outbound.yielding import Yielder
from app.trace_context import trace_headers

READ_BYTES = 65_536
ERROR_BYTES = 65_536
ERROR_SECONDS = 5
LINGER_SECONDS = 0.05
LINGER_READS = 4
MAX_IDLE_CONNECTIONS = 1024
NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_LOW_LEVEL_ERRORS = (HTTPError, HTTPException, OSError, UnicodeError)


class Body:
    """Status, headers and body of a response. `close` keeps the connection only if the body was read completely."""

    def __init__(
        self, response: BaseHTTPResponse, connection: Connection, pool: ConnectionPool, deadlines: Deadlines
    ) -> None:
        self._response, self._connection, self._pool, self._deadlines = response, connection, pool, deadlines
        self._decoder: Decoder | None = None  # of the first read on, if the body is compressed
        self._yielder = Yielder()
        self._began = self._ended = self._failed = self._closed = False
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    def read(self) -> bytes:
        """Return the bytes that have arrived, 1 to READ_BYTES, or b"" at the end. Raises `OutboundError`."""
        try:
            if not self._began:
                self._began, self._decoder = True, decoder_of(self.headers.get("content-encoding", ""))
            data = self._receive() if self._decoder is None else self._decompress(self._decoder)
        except BaseException as error:
            self._failed = True  # urllib3 then marks the response as closed, as after its end
            if isinstance(error, _LOW_LEVEL_ERRORS):
                raise translate(error, self._deadlines.exceeded) from None
            raise
        self._ended = not data
        return data

    def _receive(self) -> bytes:
        return self._response.read1(READ_BYTES, decode_content=False)

    def _decompress(self, decoder: Decoder) -> bytes:
        """Return the next decompressed bytes; without a wait on the network, the deadline is checked here."""
        while True:
            if not decoder.has_input:
                received = self._receive()
                if not received:
                    return b""
                decoder.feed(received)
            self._deadlines.remaining()
            self._yielder.step()
            if data := decoder.decode(READ_BYTES):
                return data

    def read_error(self) -> bytes:
        """Return the start of an error's body: what arrives in ERROR_SECONDS, up to ERROR_BYTES. Never raises."""
        self._deadlines.expect_end(ERROR_SECONDS)
        data = b""
        with suppress(OutboundError):  # the status says enough
            while len(data) < ERROR_BYTES and (piece := self.read()):
                data += piece
        return data[:ERROR_BYTES]

    def finish(self) -> None:
        """Wait shortly for the end of a body whose content is complete, so that the connection can be kept."""
        self._deadlines.expect_end(LINGER_SECONDS)
        with suppress(OutboundError):  # a kept connection is not worth an error
            for _ in range(LINGER_READS):
                if self._ended or not self.read():
                    break
        self.close()

    def close(self) -> None:
        """Return the connection to the pool if the body was read completely, else close it."""
        if self._closed:
            return
        self._closed = True
        if self._response.closed and not self._failed:
            self._pool.put(self._connection)
        else:
            self._connection.close()
            self._response.close()


class Transport:
    """Sends requests to one base URL. Shared by all threads; connections are kept for the next request.

    `policy` limits the addresses of the host.
    """

    def __init__(
        self, base_url: str, api_key: str, headers: Mapping[str, str], policy: AddressPolicy | None = None
    ) -> None:
        url = urlsplit(base_url)
        self._headers = {
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",  # a compressed stream would arrive in large blocks
            "Content-Type": "application/json",
            "User-Agent": "Parley",
            **({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            **headers,
        }
        self._path = quote(url.path, safe="/%:@!$&'()*+,;=~") or "/"
        self._prefix = self._path.rstrip("/") + "/"
        host = (url.hostname or "").encode("idna").decode()
        self._pool = ConnectionPool(url.scheme, host, url.port, max_idle=MAX_IDLE_CONNECTIONS, policy=policy)

    def post(self, path: str, content: bytes, deadlines: Deadlines) -> Body:
        """Send JSON, and return as soon as the response's headers have arrived. Raises `OutboundError`."""
        return self._send("POST", self._prefix + path, content, deadlines)

    def post_to_base(self, content: bytes, deadlines: Deadlines, headers: Mapping[str, str]) -> Body:
        """Send JSON with further headers to the base URL itself, and return as `post` does. Raises `OutboundError`."""
        return self._send("POST", self._path, content, deadlines, headers)

    def get(self, path: str, deadlines: Deadlines) -> Body:
        """Send a GET request, and return as `post` does. Raises `OutboundError`."""
        return self._send("GET", self._prefix + path, None, deadlines)

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        deadlines: Deadlines,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Body:
        connection = self._pool.get()
        try:
            connection.begin(deadlines)
            with suppress(BrokenPipeError, ConnectionResetError):  # the server may respond before it has read all
                connection.request(
                    method,
                    path,
                    body=content,
                    headers={**self._headers, **headers, **trace_headers()},
                    preload_content=False,
                )
            response = connection.getresponse()
        except BaseException as error:
            connection.close()
            if isinstance(error, _LOW_LEVEL_ERRORS):
                raise translate(error, deadlines.exceeded) from None
            raise
        return Body(response, connection, self._pool, deadlines)
