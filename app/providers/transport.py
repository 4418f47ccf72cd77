"""An httpx2 transport on urllib3: the openai client builds and signs requests, urllib3 carries them.

Measured: httpx2 itself costs about three times as much for each chunk of a stream. No proxy is taken from the
environment, no redirect is followed (a key must not travel to where it was not sent), TLS is always verified.
"""

from collections.abc import Iterator
from contextlib import suppress

import httpx2
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from app.errors import ProviderError
from app.providers.deadlines import Deadlines
from app.providers.sockets import clock, open_pool

READ_BYTES = 65_536
ERROR_BYTES = 65_536
KEPT_CONNECTIONS = 1024
ERROR_SECONDS = 5
LINGER_SECONDS = 0.05
LINGER_READS = 4

# What goes on to httpx2; it must not see content-encoding, since urllib3 has already decoded.
_SHOWN_HEADERS = ("content-type", "retry-after", "x-request-id", "location")


class Body(httpx2.SyncByteStream):
    """The answer's body. Reading to its end gives the connection back to the pool; closing it earlier cuts it."""

    def __init__(self, answer: BaseHTTPResponse, deadlines: Deadlines) -> None:
        self._answer, self._deadlines = answer, deadlines
        self.ended = False

    def read(self) -> bytes:
        """What has come, at least one byte; b"" at the end. Raises urllib3's errors and ProviderTimedOut."""
        data = self._answer.read1(READ_BYTES)
        self.ended = not data
        return data

    def __iter__(self) -> Iterator[bytes]:
        """For httpx2, which reads the body of an error: as much as comes soon, and no more."""
        self._deadlines.ending(ERROR_SECONDS)
        room = ERROR_BYTES
        with suppress(ProviderError, HTTPError):  # the status alone says enough
            while room > 0 and (data := self.read()[:room]):
                room -= len(data)
                yield data

    def finish(self) -> None:
        """The answer is whole: wait a moment for the body's end, so that the connection can be used again."""
        self._deadlines.ending(LINGER_SECONDS)
        with suppress(ProviderError, HTTPError):  # the connection is worth a moment, not an error
            for _ in range(LINGER_READS):
                if self.ended or not self.read():
                    break
        self.close()

    def close(self) -> None:
        if not self._answer.closed:
            self._answer.close()
        self._answer.release_conn()


class Transport(httpx2.BaseTransport):
    """Carries requests to one origin. Shared by all threads."""

    def __init__(self, base_url: str) -> None:
        url = httpx2.URL(base_url)
        self._pool = open_pool(url.scheme, url.host, url.port, kept=KEPT_CONNECTIONS)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        deadlines = clock.get()
        deadlines.answering()
        answer = self._pool.urlopen(
            request.method,
            request.url.raw_path.decode("ascii"),
            body=request.read(),
            headers=dict(request.headers),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            timeout=deadlines.left(),
        )
        body = Body(answer, deadlines)
        shown = [(name, answer.headers[name]) for name in _SHOWN_HEADERS if name in answer.headers]
        return httpx2.Response(answer.status, headers=shown, stream=body, extensions={"body": body})

    def close(self) -> None:
        self._pool.close()
