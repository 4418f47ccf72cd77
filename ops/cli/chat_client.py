"""An HTTP client of the Parley API."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType
from typing import Any

import orjson
import urllib3

from app.outbound.errors import short_reason

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0  # a stream sends a keep-alive every 15 seconds
MAX_RESUMES = 3  # of a broken stream, one second apart
MAX_RESPONSE = 16_777_216  # bytes of a response or an event
FINAL_EVENTS = ("turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted")

Event = tuple[str, dict[str, Any]]
_STREAM = {"Accept": "text/event-stream"}


class ClientError(Exception):
    """A failure as one line of text. `status` is the HTTP status, or None without a response."""

    def __init__(self, line: str, status: int | None = None) -> None:
        super().__init__(" ".join(line.split()))
        self.status = status


class ParleyClient:
    """A client of the server at `url`. `token` is an access token or an API key; call `login` or `register` otherwise.

    All methods raise `ClientError`. Not thread-safe.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._refresh_token: str | None = None
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._http = urllib3.PoolManager(retries=False, timeout=timeout)

    def login(self, email: str, password: str) -> None:
        """Open a session."""
        self._store_tokens(self._json("POST", "/api/auth/login", {"email": email, "password": password}))

    def register(self, email: str, password: str, name: str) -> None:
        """Register an account and open its first session."""
        self._store_tokens(
            self._json("POST", "/api/auth/register", {"email": email, "password": password, "name": name})
        )

    def logout(self) -> None:
        """End the session that `login` or `register` opened, if any."""
        if self._refresh_token is not None:
            self._refresh_token = None
            with suppress(ClientError):
                self._send("POST", "/api/auth/logout").close()

    def conversation(self, conversation_id: str) -> dict[str, Any]:
        """Return a conversation without its messages."""
        return self._json("GET", f"/api/conversations/{conversation_id}")

    def last_conversation(self) -> dict[str, Any] | None:
        """Return the conversation with the newest message; None if there is none."""
        items: list[dict[str, Any]] = self._json("GET", "/api/conversations?limit=1")["items"]
        return items[0] if items else None

    @contextmanager
    def send_message(self, message: str, conversation_id: str | None = None) -> Iterator[Iterator[Event]]:
        """Send a message and yield the iterator of its turn's events, each as (name, data).

        A broken stream is resumed. If the caller stops early, the server still finishes the answer.
        """
        body = {"message": message, "conversation_id": conversation_id}
        with closing(self._events(self._send("POST", "/api/chat", body, _STREAM))) as events:
            yield events

    def _events(self, response: urllib3.BaseHTTPResponse) -> Generator[Event, None, None]:
        turn_id, last = None, "0"
        for _ in range(MAX_RESUMES + 1):
            with closing(response), suppress(urllib3.exceptions.HTTPError):
                for number, kind, data in self._parse(response):
                    last = number
                    turn_id = turn_id or data.get("turn", {}).get("id")
                    yield kind, data
                    if kind in FINAL_EVENTS:
                        return
            if turn_id is None:
                break
            time.sleep(1)
            response = self._send("GET", f"/api/turns/{turn_id}/events", headers={**_STREAM, "Last-Event-ID": last})
        raise ClientError(
            "The connection was lost. The server may still finish the answer; open the conversation later."
        )

    def _parse(self, response: urllib3.BaseHTTPResponse) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield (id, name, data) of each event of a stream; comments are skipped."""
        rest = b""
        for piece in response.stream():
            *blocks, rest = (rest + piece).split(b"\n\n")
            for block in blocks:
                lines = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
                if b"data" in lines:
                    yield self._parse_event(lines)
            if len(rest) > MAX_RESPONSE:
                raise self._not_parley()

    def _parse_event(self, lines: Mapping[bytes, bytes]) -> tuple[str, str, dict[str, Any]]:
        try:
            return lines[b"id"].decode(), lines[b"event"].decode(), orjson.loads(lines[b"data"])
        except (KeyError, ValueError):
            raise self._not_parley() from None

    def _store_tokens(self, tokens: Mapping[str, Any]) -> None:
        self._token, self._refresh_token = tokens["access_token"], tokens["refresh_token"]

    def _refresh(self) -> bool:
        """Exchange the refresh token; return whether there are new tokens."""
        if self._refresh_token is None:
            return False
        self._token, self._refresh_token = self._refresh_token, None
        self._store_tokens(self._json("POST", "/api/auth/refresh"))
        return True

    def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        with closing(self._send(method, path, body)) as response:
            document = _object(response)
        if document is None:
            raise self._not_parley()
        return document

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        may_refresh: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        """Return a successful response with its body unread. An expired access token is replaced once."""
        own_headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        own_headers |= {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._http.request(
                method,
                self._url + path,
                body=None if body is None else orjson.dumps(body),
                headers={**own_headers, **headers},
                preload_content=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ClientError(
                f"No response from {self._url} ({short_reason(error)}). Is Parley running there?"
            ) from None
        if response.status < 300:
            return response
        with closing(response):
            if response.status == 401 and may_refresh and self._refresh():
                return self._send(method, path, body, headers, may_refresh=False)
            problem = _object(response)
        if problem is None or "detail" not in problem:
            raise self._not_parley()
        fields = "".join(f" {name}: {' '.join(messages)}" for name, messages in problem.get("errors", {}).items())
        raise ClientError(f"{problem['detail']}{fields}", response.status)

    def _not_parley(self) -> ClientError:
        return ClientError(f"{self._url} did not send a Parley response: check the URL and the server's log.")


def _object(response: urllib3.BaseHTTPResponse) -> dict[str, Any] | None:
    """Return the JSON object of a response; None if it has none."""
    try:
        document = orjson.loads(response.read(MAX_RESPONSE))
    except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError):
        return None
    return document if isinstance(document, dict) else None
