"""Talking to a running Parley from outside, over HTTP, as any other program would."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType
from typing import Any

import orjson
import urllib3

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0  # a stream says something every 15
RESUMES = 3  # of a stream that breaks, a second apart
LARGEST_ANSWER = 16_777_216  # bytes, of an answer or an event; the longest there is has less
ENDS = ("turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted")

Event = tuple[str, dict[str, Any]]
_STREAM = {"Accept": "text/event-stream"}


class ClientError(Exception):
    """What went wrong, as one line for a person. `status` is the answer's, or None where there was none."""

    def __init__(self, line: str, status: int | None = None) -> None:
        super().__init__(" ".join(line.split()))
        self.status = status


class ParleyClient:
    """One caller of the server at `url`. `token` is an access token or an API key; without one, log in or register.

    Every method raises `ClientError`. Not thread-safe.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._refresh_token: str | None = None
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        self._http = urllib3.PoolManager(retries=False, timeout=timeout)

    def login(self, email: str, password: str) -> None:
        """Open a session."""
        self._keep(self._json("POST", "/api/auth/login", {"email": email, "password": password}))

    def register(self, email: str, password: str, name: str) -> None:
        """Open an account and its first session."""
        self._keep(self._json("POST", "/api/auth/register", {"email": email, "password": password, "name": name}))

    def logout(self) -> None:
        """End the session that `login` or `register` opened, if one did and the server still knows it."""
        if self._refresh_token is not None:
            self._refresh_token = None
            with suppress(ClientError):
                self._send("POST", "/api/auth/logout").close()

    def conversation(self, conversation_id: str) -> dict[str, Any]:
        """That conversation, without its messages."""
        return self._json("GET", f"/api/conversations/{conversation_id}")

    def last_conversation(self) -> dict[str, Any] | None:
        """The one with the newest message, if there is any."""
        items: list[dict[str, Any]] = self._json("GET", "/api/conversations?limit=1")["items"]
        return items[0] if items else None

    @contextmanager
    def say(self, message: str, conversation_id: str | None = None) -> Iterator[Iterator[Event]]:
        """Send a message; gives the events of its turn as they come, (name, data), to the last.

        A stream that breaks is picked up where it broke. Leaving early stops nothing: the server finishes the answer.
        """
        body = {"message": message, "conversation_id": conversation_id}
        with closing(self._events(self._send("POST", "/api/chat", body, _STREAM))) as events:
            yield events

    def _events(self, response: urllib3.BaseHTTPResponse) -> Generator[Event, None, None]:
        turn_id, last = None, "0"
        for _ in range(RESUMES + 1):
            with closing(response), suppress(urllib3.exceptions.HTTPError):
                for number, kind, data in self._parsed(response):
                    last = number
                    turn_id = turn_id or data.get("turn", {}).get("id")
                    yield kind, data
                    if kind in ENDS:
                        return
            if turn_id is None:
                break
            time.sleep(1)
            response = self._send("GET", f"/api/turns/{turn_id}/events", headers={**_STREAM, "Last-Event-ID": last})
        raise ClientError("The connection broke. The server may still be answering: see the conversation later.")

    def _parsed(self, response: urllib3.BaseHTTPResponse) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The (id, name, data) of each event of a stream; comments are passed over."""
        rest = b""
        for piece in response.stream():
            *blocks, rest = (rest + piece).split(b"\n\n")
            for block in blocks:
                lines = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
                if b"data" in lines:
                    yield self._event(lines)
            if len(rest) > LARGEST_ANSWER:
                raise self._not_parley()

    def _event(self, lines: Mapping[bytes, bytes]) -> tuple[str, str, dict[str, Any]]:
        try:
            return lines[b"id"].decode(), lines[b"event"].decode(), orjson.loads(lines[b"data"])
        except (KeyError, ValueError):
            raise self._not_parley() from None

    def _keep(self, tokens: Mapping[str, Any]) -> None:
        self._token, self._refresh_token = tokens["access_token"], tokens["refresh_token"]

    def _refresh(self) -> bool:
        """Whether there are new tokens."""
        if self._refresh_token is None:
            return False
        self._token, self._refresh_token = self._refresh_token, None
        self._keep(self._json("POST", "/api/auth/refresh"))
        return True

    def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        with closing(self._send(method, path, body)) as response:
            answer = _object(response)
        if answer is None:
            raise self._not_parley()
        return answer

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        *,
        may_refresh: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        """An answer that is no error; its body has not been read. An access token that has expired is replaced."""
        known = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        known |= {"Content-Type": "application/json"} if body is not None else {}
        try:
            response = self._http.request(
                method,
                self._url + path,
                body=None if body is None else orjson.dumps(body),
                headers={**known, **headers},
                preload_content=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ClientError(f"No answer from {self._url} ({_reason(error)}): does Parley run there?") from None
        if response.status < 300:
            return response
        with closing(response):
            if response.status == 401 and may_refresh and self._refresh():
                return self._send(method, path, body, headers, may_refresh=False)
            problem = _object(response)
        if problem is None or "detail" not in problem:
            raise self._not_parley()
        fields = "".join(f" {name}: {' '.join(said)}" for name, said in problem.get("errors", {}).items())
        raise ClientError(f"{problem['detail']}{fields}", response.status)

    def _not_parley(self) -> ClientError:
        return ClientError(f"What answers at {self._url} is not Parley, or not in a state to answer.")


def _object(response: urllib3.BaseHTTPResponse) -> dict[str, Any] | None:
    """The JSON object in an answer, if there is one."""
    try:
        found = orjson.loads(response.read(LARGEST_ANSWER))
    except (urllib3.exceptions.HTTPError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None


def _reason(error: urllib3.exceptions.HTTPError) -> str:
    """In two or three words, without what only a programmer wants to know."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "unknown host"
    if isinstance(error, urllib3.exceptions.SSLError):
        return "its certificate cannot be verified"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return "timed out" if isinstance(error, urllib3.exceptions.TimeoutError) else "the connection broke"
