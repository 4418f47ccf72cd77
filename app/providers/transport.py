"""One request to one origin over urllib3, and the body of its answer as it comes.

What a request looks like is a base URL, a bearer token and a few headers. The openai package knows that too, for a
second of every start and 16 MB of every process (docs/adr/0006-providers-over-urllib3.md).

No proxy is taken from the environment, no redirect is followed (a key must not travel to where it was not sent), TLS is
always verified, nothing is tried twice.
"""

from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import quote, urlsplit

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from app.errors import ProviderError
from app.providers.deadlines import Deadlines
from app.providers.sockets import clock, open_pool

READ_BYTES = 65_536
ERROR_BYTES = 65_536
ERROR_SECONDS = 5
LINGER_SECONDS = 0.05
LINGER_READS = 4
KEPT_CONNECTIONS = 1024


class Body:
    """An answer's status, headers and body. Read to its end it gives the connection back; closed earlier it cuts it."""

    def __init__(self, answer: BaseHTTPResponse, deadlines: Deadlines) -> None:
        self._answer, self._deadlines = answer, deadlines
        self._encoded = "content-encoding" in answer.headers  # not asked for, yet some proxies do it
        self._ended = False
        self.status: int = answer.status
        self.headers: Mapping[str, str] = answer.headers

    def read(self) -> bytes:
        """What has come, at least one byte; b"" at the end. Raises urllib3's errors and ProviderTimedOut."""
        data = self._answer.read1(READ_BYTES, decode_content=self._encoded)
        self._ended = not data
        return data

    def read_error(self) -> bytes:
        """As much of an error's body as comes soon, up to ERROR_BYTES; never raises: the status says enough."""
        self._deadlines.ending(ERROR_SECONDS)
        data = b""
        with suppress(ProviderError, HTTPError, OSError):
            while len(data) < ERROR_BYTES and (piece := self.read()):
                data += piece
        return data[:ERROR_BYTES]

    def finish(self) -> None:
        """The answer is whole: wait a moment for the body's end, so that the connection can be used again."""
        self._deadlines.ending(LINGER_SECONDS)
        with suppress(ProviderError, HTTPError, OSError):  # the connection is worth a moment, not an error
            for _ in range(LINGER_READS):
                if self._ended or not self.read():
                    break
        self.close()

    def close(self) -> None:
        """Give the connection back if the body came to its end, else close it."""
        if not self._answer.closed:
            self._answer.close()
        self._answer.release_conn()


class Transport:
    """Sends requests to one base URL. Shared by all threads; connections are kept for the next request."""

    def __init__(self, base_url: str, api_key: str, headers: Mapping[str, str]) -> None:
        url = urlsplit(base_url)
        self._headers = {
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",  # a compressed stream would come in lumps
            "Content-Type": "application/json",
            "User-Agent": "Parley",
            **({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            **headers,
        }
        self._prefix = quote(url.path.rstrip("/"), safe="/%:@!$&'()*+,;=~") + "/"
        host = (url.hostname or "").encode("idna").decode()
        self._pool = open_pool(url.scheme, host, url.port, kept=KEPT_CONNECTIONS)

    def post(self, path: str, content: bytes, deadlines: Deadlines) -> Body:
        """Send JSON; return once the answer's headers are there. Raises urllib3's errors and ProviderError."""
        return self._send("POST", path, content, deadlines)

    def get(self, path: str, deadlines: Deadlines) -> Body:
        """Ask for what is there; as `post`."""
        return self._send("GET", path, None, deadlines)

    def _send(self, method: str, path: str, content: bytes | None, deadlines: Deadlines) -> Body:
        token = clock.set(deadlines)
        try:
            answer = self._pool.urlopen(
                method,
                self._prefix + path,
                body=content,
                headers=self._headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                timeout=deadlines.left(),
            )
        finally:
            clock.reset(token)
        return Body(answer, deadlines)
