"""People who chat with a server that is being killed, and remember what they were told."""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
import urllib3

from tests.factories import Account

TRIES = 200  # of one message; each waits a little
CONVERSATIONS = 4  # of one person; the more there are, the rarer is a new one


@dataclass
class Said:
    """One message as its author knows it. `answer` is what the server acknowledged, None if it never did."""

    text: str
    key: str | None
    tries: int = 0
    statuses: list[int] = field(default_factory=list)
    conversation_id: str | None = None
    turn_ids: set[str] = field(default_factory=set)
    answer: dict[str, Any] | None = None
    stored: bool = False  # the server has said that the message is durable


class Chatter(threading.Thread):
    """Chats in conversations of `account`, one message after the other, as JSON or a stream, with a key or without,
    until `stopping`; then once more in each of them.

    Every message is sent again, blindly, until it is answered; messages without a key are therefore said more than
    once, which is the author's risk.
    """

    def __init__(self, url: str, account: Account, stopping: threading.Event, seed: int) -> None:
        super().__init__(daemon=True)
        self._url, self._account, self._stopping = url, account, stopping
        self._random = random.Random(seed)
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2, read=20))
        self.said: list[Said] = []
        self.conversations: list[str] = []
        self.unexpected: list[str] = []
        self.answered = 0

    def run(self) -> None:
        while not self._stopping.is_set():
            self.say(with_key=self._random.random() < 0.7)
        for conversation in self.conversations:  # the next caller of each
            self.say(with_key=True, conversation=conversation)

    def say(self, with_key: bool, conversation: str | None = None) -> Said:
        """Say something new until it is answered, or until the tries are used up."""
        said = Said(f"{self._account.name} says {uuid4().hex}", uuid4().hex if with_key else None)
        self.said.append(said)
        if conversation is None and self._random.random() < len(self.conversations) / CONVERSATIONS:
            conversation = self._random.choice(self.conversations)
        for _ in range(TRIES):
            self._try(said, conversation, stream=self._random.random() < 0.5)
            if said.answer is not None:
                self.answered += 1
                if said.conversation_id not in self.conversations:
                    self.conversations.append(str(said.conversation_id))
                break
            threading.Event().wait(self._random.uniform(0.02, 0.2))
        return said

    def _try(self, said: Said, conversation: str | None, stream: bool) -> None:
        said.tries += 1
        body = {"message": said.text, "stream": stream} | ({"conversation_id": conversation} if conversation else {})
        headers = {**self._account.headers, "Content-Type": "application/json"}
        if said.key:
            headers["Idempotency-Key"] = said.key
        try:
            response = self._http.request(
                "POST", f"{self._url}/api/chat", body=orjson.dumps(body), headers=headers, preload_content=False
            )
            said.statuses.append(response.status)
            if response.status == 200 and stream:
                self._take_stream(said, response)
            else:
                self._take(said, response.status, orjson.loads(response.read()))
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, orjson.JSONDecodeError):
            said.statuses.append(0)

    def _take(self, said: Said, status: int, body: dict[str, Any]) -> None:
        if status == 200:
            self._answered(said, body["turn"], body["message"])
        elif status not in (409, 502, 503, 504):
            self.unexpected.append(f"{status} {body}")

    def _take_stream(self, said: Said, response: urllib3.BaseHTTPResponse) -> None:
        message = None
        for kind, data in _events(response):
            if kind == "turn.started":
                said.stored = True
                said.turn_ids.add(data["turn"]["id"])
                said.conversation_id = data["turn"]["conversation_id"]
            elif kind == "message.completed":
                message = data["message"]
            elif kind == "turn.completed":
                self._answered(said, data["turn"], message)

    def _answered(self, said: Said, turn: dict[str, Any], message: dict[str, Any] | None) -> None:
        said.stored = True
        said.answer = message
        said.turn_ids.add(turn["id"])
        said.conversation_id = turn["conversation_id"]
        if message is None or turn["status"] != "completed":
            self.unexpected.append(f"completed without an answer: {turn}")


def _events(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    rest = b""
    while piece := response.read1(65_536):
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            if lines:
                yield lines[b"event"].decode(), orjson.loads(lines[b"data"])
