"""People who chat with servers that are being killed, and remember what they were told."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
import urllib3

from tests.factories import Account
from tests.faults.ear import Ear

TRIES = 400  # of one message; each waits a little
CONVERSATIONS = 4  # of one person; the more there are, the rarer is a new one
MOVED_ON = "409 conversation_moved_on"
NOT_NOW = (408, 409, 429, 502, 503, 504)  # answers after which the same is sent again


@dataclass
class Said:
    """One message as its author knows it. `answer` is what the server acknowledged, None if it never did."""

    text: str
    key: str | None
    tries: int = 0
    statuses: list[str] = field(default_factory=list)  # with the problem's code; empty for no answer
    conversation_id: str | None = None
    turn_ids: set[str] = field(default_factory=set)
    answer: dict[str, Any] | None = None
    stored: bool = False  # the server has said that the message is durable
    calm: bool = True  # nothing was in the way: sent once, answered at once
    moved_on: bool = False  # the server said that it cannot be answered any more, because of later messages


class Chatter(threading.Thread):
    """Chats in conversations of `account` at any of `urls`, one message after the other, until `stopping`; then once
    more in each of them.

    As JSON or a stream, with a key or without, now and then twice at the same time, and now and then cancelled. Every
    message is sent again, blindly, until it is answered, or its turn is followed at another server; messages without a
    key may therefore be said more than once, which is the author's risk. `counts` says what was done.
    """

    def __init__(
        self,
        urls: Sequence[str],
        account: Account,
        stopping: threading.Event,
        seed: int,
        most_conversations: int = CONVERSATIONS,
    ) -> None:
        super().__init__(daemon=True)
        self._most_conversations = most_conversations
        self._urls, self._account, self._stopping = urls, account, stopping
        self._random = random.Random(seed)
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2, read=20))
        self.said: list[Said] = []
        self.conversations: list[str] = []
        self.unexpected: list[str] = []
        self.answered = 0
        self.counts = Counter[str]()

    def run(self) -> None:
        while not self._stopping.is_set():
            self.say(with_key=self._perhaps(0.7))
        for conversation in self.conversations:  # the next caller of each
            self.say(with_key=True, conversation=conversation)

    def say(self, with_key: bool, conversation: str | None = None) -> Said:
        """Say something new until it is answered, or until the tries are used up."""
        said = Said(f"{self._account.name} says {uuid4().hex}", uuid4().hex if with_key else None)
        self.said.append(said)
        if conversation is None and self._random.random() < len(self.conversations) / self._most_conversations:
            conversation = self._random.choice(self.conversations)
        for _ in range(TRIES):
            self._try(said, conversation)
            if said.answer is not None:
                self._answered(said, conversation)
            if said.answer is not None or said.moved_on:
                break
            said.calm = False
            threading.Event().wait(self._random.uniform(0.02, 0.2))
        return said

    def _answered(self, said: Said, conversation: str | None) -> None:
        self.answered += 1
        if said.conversation_id not in self.conversations:
            self.conversations.append(str(said.conversation_id))
        if said.key and self._perhaps(0.2):
            known = said.answer
            self._post_json(said, conversation)  # the same again is told again
            self.counts["told again"] += said.statuses[-1] == "200"
            if said.answer != known:
                self.unexpected.append(f"told differently the second time: {known} {said.answer}")

    def _try(self, said: Said, conversation: str | None) -> None:
        if self._perhaps(0.5):
            ear = self._post_stream(said, conversation, cancel=said.key is not None and self._perhaps(0.1))
            while ear.turn_id and ear.ending is None and self._perhaps(0.7):
                self._follow(said, ear)
            self._heard(said, ear)
        elif said.key and self._perhaps(0.15):
            twin = threading.Thread(target=self._post_json, args=(said, conversation), daemon=True)
            twin.start()
            self._post_json(said, conversation)
            twin.join()
            said.calm = False
            self.counts["sent twice at once"] += 1
        else:
            self._post_json(said, conversation)

    def _post_json(self, said: Said, conversation: str | None) -> None:
        def take(response: urllib3.BaseHTTPResponse) -> None:
            body = orjson.loads(response.read())
            self._take(said, body["turn"], body["message"])

        self._post(said, conversation, stream=False, take=take)

    def _post_stream(self, said: Said, conversation: str | None, cancel: bool) -> Ear:
        ear = Ear()

        def take(response: urllib3.BaseHTTPResponse) -> None:
            if cancel:
                threading.Timer(self._random.uniform(0, 0.4), self._cancel, args=(said, ear)).start()
            ear.listen(response, self._random.randint(1, 6) if self._perhaps(0.2) else None)

        self._post(said, conversation, stream=True, take=take)
        self._note(said, ear)
        return ear

    def _post(
        self, said: Said, conversation: str | None, stream: bool, take: Callable[[urllib3.BaseHTTPResponse], None]
    ) -> None:
        said.tries += 1
        body = {"message": said.text, "stream": stream} | ({"conversation_id": conversation} if conversation else {})
        said.statuses.append(self._ask("POST", "/api/chat", take, body, key=said.key))
        said.moved_on = said.moved_on or said.statuses[-1] == MOVED_ON

    def _follow(self, said: Said, ear: Ear) -> None:
        """Go on listening where the stream broke off, at any server."""
        said.calm = False
        status = self._ask("GET", f"/api/turns/{ear.turn_id}/events", ear.listen, after=ear.last)
        self.counts["followed elsewhere"] += status == "200"
        self._note(said, ear)
        if status != "200":
            threading.Event().wait(self._random.uniform(0.02, 0.2))

    def _cancel(self, said: Said, ear: Ear) -> None:
        if ear.turn_id is not None:
            said.calm = False
            status = self._ask("POST", f"/api/turns/{ear.turn_id}/cancel", lambda response: None, {})
            self.counts["cancels heard"] += status == "202"

    def _note(self, said: Said, ear: Ear) -> None:
        self.unexpected += ear.wrong
        ear.wrong = []
        if ear.turn_id is not None:
            said.stored = True
            said.turn_ids.add(ear.turn_id)
            said.conversation_id = ear.conversation_id

    def _heard(self, said: Said, ear: Ear) -> None:
        if ear.turn is not None and ear.ending == "turn.completed":
            self._take(said, ear.turn, ear.message)

    def _take(self, said: Said, turn: dict[str, Any], message: dict[str, Any] | None) -> None:
        """How a turn ended, as the server tells it."""
        said.stored = True
        said.turn_ids.add(turn["id"])
        said.conversation_id = turn["conversation_id"]
        if turn["status"] != "completed":
            return  # cancelled: said again
        if message is None:
            self.unexpected.append(f"completed without an answer: {turn}")
        elif said.answer is not None and said.answer != message:
            self.unexpected.append(f"two answers: {said.answer} {message}")
        said.answer = message

    def _ask(
        self,
        method: str,
        path: str,
        take: Callable[[urllib3.BaseHTTPResponse], None],
        body: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        after: int | None = None,
    ) -> str:
        """The status and its problem's code, at a server of chance; empty where the connection was refused or broke."""
        headers = {**self._account.headers, "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key} if key else {}
        headers |= {"Last-Event-ID": str(after)} if after is not None else {}
        sent = orjson.dumps(body) if body is not None else None
        try:
            response = self._http.request(
                method, self._random.choice(self._urls) + path, body=sent, headers=headers, preload_content=False
            )
            if response.status in (200, 202):
                take(response)
                response.drain_conn()
                response.release_conn()
                return str(response.status)
            problem = response.read()
            response.release_conn()
            if response.status not in NOT_NOW:
                self.unexpected.append(f"{method} {path}: {response.status} {problem!r}")
            return f"{response.status} {orjson.loads(problem)['code']}"
        except (urllib3.exceptions.HTTPError, OSError, orjson.JSONDecodeError):
            return ""

    def _perhaps(self, chance: float) -> bool:
        return self._random.random() < chance
