"""Clients that chat with servers under fault injection and record every acknowledgement."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
import urllib3

from tests.factories import LoggedInUser
from tests.faults.stream_checker import StreamChecker

MAX_ATTEMPTS = 400  # for one message, with a short pause after each
MAX_CONVERSATIONS = 4  # of one client; the more it has, the less often it starts a new one
CONVERSATION_ADVANCED = "409 conversation_moved_on"
RETRYABLE_STATUSES = (408, 409, 429, 502, 503, 504)


@dataclass
class SentMessage:
    """One message as its sender sees it. `answer` is what the server acknowledged; None without one."""

    text: str
    key: str | None
    attempts: int = 0
    statuses: list[str] = field(default_factory=list)  # with the problem's code; empty for no response
    conversation_id: str | None = None
    turn_ids: set[str] = field(default_factory=set)
    answer: dict[str, Any] | None = None
    stored: bool = False  # the server has acknowledged the message
    undisturbed: bool = True  # sent once, and answered to the first request
    superseded: bool = False  # the server refuses to answer it, because of later messages


class ChatClient(threading.Thread):
    """A client that sends one message after the other to any of `urls` until `stopping` is set.

    It uses several conversations of `account`, and at the end sends one more message in each of them. It chooses at
    random between JSON and a stream, with or without a key, sometimes sends a request twice at once, and sometimes
    cancels. It repeats a message until it is answered, or follows its turn at another server; a message without a key
    may therefore be stored more than once. `counts` are the numbers of special cases.
    """

    def __init__(
        self,
        urls: Sequence[str],
        account: LoggedInUser,
        stopping: threading.Event,
        seed: int,
        max_conversations: int = MAX_CONVERSATIONS,
    ) -> None:
        super().__init__(daemon=True)
        self._max_conversations = max_conversations
        self._urls, self._account, self._stopping = urls, account, stopping
        self._random = random.Random(seed)
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2, read=20))
        self.sent: list[SentMessage] = []
        self.conversations: list[str] = []
        self.errors: list[str] = []
        self.answered = 0
        self.counts = Counter[str]()

    def run(self) -> None:
        """Chat until `stopping` is set, then once more in each conversation."""
        while not self._stopping.is_set():
            self.send(with_key=self._chance(0.7))
        for conversation in self.conversations:
            self.send(with_key=True, conversation=conversation)

    def send(self, with_key: bool, conversation: str | None = None) -> SentMessage:
        """Send a new message until it is answered or MAX_ATTEMPTS is reached."""
        message = SentMessage(f"{self._account.name} says {uuid4().hex}", uuid4().hex if with_key else None)
        self.sent.append(message)
        if conversation is None and self._random.random() < len(self.conversations) / self._max_conversations:
            conversation = self._random.choice(self.conversations)
        for _ in range(MAX_ATTEMPTS):
            self._attempt(message, conversation)
            if message.answer is not None:
                self._record_answered(message, conversation)
            if message.answer is not None or message.superseded:
                break
            message.undisturbed = False
            threading.Event().wait(self._random.uniform(0.02, 0.2))
        return message

    def _record_answered(self, message: SentMessage, conversation: str | None) -> None:
        self.answered += 1
        if message.conversation_id not in self.conversations:
            self.conversations.append(str(message.conversation_id))
        if message.key and self._chance(0.2):
            first = message.answer
            self._post_json(message, conversation)  # a completed turn is replayed
            self.counts["replays"] += message.statuses[-1] == "200"
            if message.answer != first:
                self.errors.append(f"the replay differs: {first} {message.answer}")

    def _attempt(self, message: SentMessage, conversation: str | None) -> None:
        if self._chance(0.5):
            checker = self._post_stream(message, conversation, cancel=message.key is not None and self._chance(0.1))
            while checker.turn_id and checker.final_event is None and self._chance(0.7):
                self._follow(message, checker)
            self._record_stream_end(message, checker)
        elif message.key and self._chance(0.15):
            twin = threading.Thread(target=self._post_json, args=(message, conversation), daemon=True)
            twin.start()
            self._post_json(message, conversation)
            twin.join()
            message.undisturbed = False
            self.counts["sent twice at once"] += 1
        else:
            self._post_json(message, conversation)

    def _post_json(self, message: SentMessage, conversation: str | None) -> None:
        def read(response: urllib3.BaseHTTPResponse) -> None:
            body = orjson.loads(response.read())
            self._record_turn(message, body["turn"], body["message"])

        self._post(message, conversation, stream=False, read=read)

    def _post_stream(self, message: SentMessage, conversation: str | None, cancel: bool) -> StreamChecker:
        checker = StreamChecker()

        def read(response: urllib3.BaseHTTPResponse) -> None:
            if cancel:
                threading.Timer(self._random.uniform(0, 0.4), self._cancel, args=(message, checker)).start()
            checker.read(response, self._random.randint(1, 6) if self._chance(0.2) else None)

        self._post(message, conversation, stream=True, read=read)
        self._record_stream(message, checker)
        return checker

    def _post(
        self,
        message: SentMessage,
        conversation: str | None,
        stream: bool,
        read: Callable[[urllib3.BaseHTTPResponse], None],
    ) -> None:
        message.attempts += 1
        body: dict[str, Any] = {"message": message.text, "stream": stream}
        if conversation:
            body["conversation_id"] = conversation
        message.statuses.append(self._request("POST", "/api/chat", read, body, key=message.key))
        message.superseded = message.superseded or message.statuses[-1] == CONVERSATION_ADVANCED

    def _follow(self, message: SentMessage, checker: StreamChecker) -> None:
        """Resume the stream after its last event, at any server."""
        message.undisturbed = False
        path = f"/api/turns/{checker.turn_id}/events"
        status = self._request("GET", path, checker.read, after=checker.last_sequence)
        self.counts["streams resumed"] += status == "200"
        self._record_stream(message, checker)
        if status != "200":
            threading.Event().wait(self._random.uniform(0.02, 0.2))

    def _cancel(self, message: SentMessage, checker: StreamChecker) -> None:
        if checker.turn_id is not None:
            message.undisturbed = False
            status = self._request("POST", f"/api/turns/{checker.turn_id}/cancel", lambda response: None, {})
            self.counts["cancels accepted"] += status == "202"

    def _record_stream(self, message: SentMessage, checker: StreamChecker) -> None:
        self.errors += checker.errors
        checker.errors = []
        if checker.turn_id is not None:
            message.stored = True
            message.turn_ids.add(checker.turn_id)
            message.conversation_id = checker.conversation_id

    def _record_stream_end(self, message: SentMessage, checker: StreamChecker) -> None:
        if checker.turn is not None and checker.final_event == "turn.completed":
            self._record_turn(message, checker.turn, checker.message)

    def _record_turn(self, message: SentMessage, turn: dict[str, Any], answer: dict[str, Any] | None) -> None:
        """Record an ended turn, and its answer if it was completed."""
        message.stored = True
        message.turn_ids.add(turn["id"])
        message.conversation_id = turn["conversation_id"]
        if turn["status"] != "completed":
            return  # cancelled: the message is sent again
        if answer is None:
            self.errors.append(f"completed without an answer: {turn}")
        elif message.answer is not None and message.answer != answer:
            self.errors.append(f"two answers: {message.answer} {answer}")
        message.answer = answer

    def _request(
        self,
        method: str,
        path: str,
        read: Callable[[urllib3.BaseHTTPResponse], None],
        body: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        after: int | None = None,
    ) -> str:
        """Send a request to a random server and return its status, with the code of a problem.

        Returns an empty string where the connection was refused or broken.
        """
        headers = {**self._account.headers, "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key} if key else {}
        headers |= {"Last-Event-ID": str(after)} if after is not None else {}
        data = orjson.dumps(body) if body is not None else None
        try:
            response = self._http.request(
                method, self._random.choice(self._urls) + path, body=data, headers=headers, preload_content=False
            )
            if response.status in (200, 202):
                read(response)
                response.drain_conn()
                response.release_conn()
                return str(response.status)
            problem = response.read()
            response.release_conn()
            if response.status not in RETRYABLE_STATUSES:
                self.errors.append(f"{method} {path}: {response.status} {problem!r}")
            return f"{response.status} {orjson.loads(problem)['code']}"
        except (urllib3.exceptions.HTTPError, OSError, orjson.JSONDecodeError):
            return ""

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability
