"""A Hypothesis state machine of two users and two processes, compared with the model after each step.

Each step is a rule; the model is in `api_model.py`. The provider is a real server on loopback that echoes what it
received, so every answer is predictable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flask import Flask
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from werkzeug.test import TestResponse

from tests.bundling import bundle_conversation
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.api_model import ChatRequestModel, ConversationModel
from tests.faults.stream_checker import StreamChecker

PAGE_LIMIT = 7  # messages, so that conversations have several pages
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(str.strip)
titles = st.none() | texts
indices = st.integers(0, 99)  # taken modulo the number of items
booleans = st.booleans()
needs_conversation = precondition(lambda machine: machine.conversations)
needs_request = precondition(lambda machine: machine.requests)


@dataclass(frozen=True)
class Environment:
    """Shared by all examples: two applications on one database, a provider, and a function that creates a user."""

    processes: Sequence[Flask]
    upstream: Upstream
    make_user: Callable[[], LoggedInUser]


class ApiMachine(RuleBasedStateMachine):
    """The rules, for two users of its own."""

    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self.environment = environment
        self.users = [environment.make_user(), environment.make_user()]
        self.conversations: list[ConversationModel] = []
        self.requests: list[ChatRequestModel] = []
        self.last: ConversationModel | None = None
        self.request_count = 0

    # Rules

    @rule(user=indices, title=titles, repeated=booleans)
    def create(self, user: int, title: str | None, repeated: bool) -> None:
        """Create a conversation, twice with the same key if `repeated`."""
        model = ConversationModel(self.users[user % 2], title=title)
        key = uuid4().hex if repeated else None
        for _ in range(2 if repeated else 1):
            response = self.request(model.owner, "POST", "/api/conversations", {"title": title}, key=key)
            assert response.status_code == 201, response.json
            assert model.id in ("", response.json["id"])
            model.id = response.json["id"]
        self._add(model)

    @rule(user=indices, message=texts, stream=booleans, with_key=booleans)
    def chat_in_new_conversation(self, user: int, message: str, stream: bool, with_key: bool) -> None:
        """Send a message without a conversation."""
        self._chat_completed(ConversationModel(self.users[user % 2]), {"message": message}, stream, with_key)

    @needs_conversation
    @rule(index=indices, message=texts, stream=booleans, with_key=booleans)
    def chat_in_conversation(self, index: int, message: str, stream: bool, with_key: bool) -> None:
        """Send a message to an existing or deleted conversation."""
        conversation = self._pick(index)
        body = {"message": message, "conversation_id": conversation.id}
        if conversation.deleted:
            assert self.chat(conversation.owner, body, None, stream)[0] == 404
        else:
            self._chat_completed(conversation, body, stream, with_key)

    @needs_conversation
    @rule(index=indices, message=texts, stream=booleans, partial=booleans)
    def chat_with_failing_provider(self, index: int, message: str, stream: bool, partial: bool) -> None:
        """Send a message that the provider refuses, or that it answers in part."""
        conversation = self._pick(index, deleted=False)
        if conversation is None:
            return
        self.environment.upstream.queue_scripts(scripts.cut(after=2) if partial else scripts.api_error(500))
        body, key = {"message": message, "conversation_id": conversation.id}, uuid4().hex
        status, checker, problem = self.chat(conversation.owner, body, key, stream)
        assert (status, checker.final_event) == ((200, "turn.failed") if stream else (502, None)), problem
        question = self._add_question(conversation, message)
        if partial:
            conversation.add_answer("word0 word1 ", "failed")
        turn_id = checker.turn_id if stream else problem["turn_id"]
        self._add_request(conversation, key, body, question, turn_id, "failed")

    @needs_conversation
    @rule(index=indices, message=texts, partial=booleans)
    def cancel(self, index: int, message: str, partial: bool) -> None:
        """Cancel a running turn before or after its first piece; until then the conversation is busy."""
        conversation = self._pick(index, deleted=False)
        if conversation is None:
            return
        self.environment.upstream.queue_scripts(scripts.hang(after=1 if partial else 0))
        body, key, checker = {"message": message, "conversation_id": conversation.id}, uuid4().hex, StreamChecker()
        stream = self.request(conversation.owner, "POST", "/api/chat", {**body, "stream": True}, key=key)
        chunks = iter(stream.response)
        while not (checker.text if partial else checker.turn_id):
            checker.feed(next(chunks))
        question = self._add_question(conversation, message)
        self._check_busy(conversation, body, key)
        cancelled = self.request(conversation.owner, "POST", f"/api/turns/{checker.turn_id}/cancel", {})
        assert cancelled.status_code == 202, cancelled.json
        for chunk in chunks:
            checker.feed(chunk)
        assert (checker.final_event, checker.errors) == ("turn.cancelled", [])
        if partial:
            conversation.add_answer("word0 ", "cancelled")
        assert checker.turn_id is not None
        self._add_request(conversation, key, body, question, checker.turn_id, "cancelled")

    @needs_request
    @rule(index=indices, stream=booleans, fails=booleans)
    def repeat(self, index: int, stream: bool, fails: bool) -> None:
        """Repeat a request with its key: a completed turn is replayed, another one retried if it is the last one."""
        request = self.requests[index % len(self.requests)]
        conversation = self.last = request.conversation
        if conversation.deleted:
            return  # its key is deleted too
        retried = request.status != "completed" and len(conversation.messages) == request.message_count
        if retried and fails:
            self.environment.upstream.queue_scripts(scripts.api_error(500))
        status, checker, problem = self.chat(request.owner, request.body, request.key, stream)
        if request.status != "completed" and not retried:
            assert (status, problem["code"]) == (409, "conversation_moved_on")
            return
        if retried and fails:
            assert (status, checker.final_event) == ((200, "turn.failed") if stream else (502, None)), problem
            conversation.status = "active"
            conversation.touch()
            return
        assert (status, checker.turn_id, checker.final_event) == (200, request.turn_id, "turn.completed"), problem
        if request.status != "completed":
            conversation.status = "active"
            conversation.add_answer(conversation.expected_answer(request.body["message"], request.index))
            request.status, request.answer = "completed", checker.message
            request.message_count = len(conversation.messages)
        assert checker.message == request.answer
        assert checker.message["content"] == conversation.messages[checker.message["position"] - 1][1]

    @needs_request
    @rule(index=indices, message=texts)
    def reuse_key(self, index: int, message: str) -> None:
        """Send another body or another kind of request with a used key, which is rejected."""
        request = self.requests[index % len(self.requests)]
        if request.conversation.deleted:
            return
        self.last = request.conversation
        other = {**request.body, "message": message + "!"}
        if other["message"] != request.body["message"]:
            assert self.chat(request.owner, other, request.key, False)[0] == 422
        created = self.request(request.owner, "POST", "/api/conversations", {"title": message}, key=request.key)
        assert created.status_code == 422, created.json

    @needs_conversation
    @rule(index=indices, title=titles, number=st.integers(-(2**53), 2**53))
    def rename(self, index: int, title: str | None, number: int) -> None:
        """Change title and metadata."""
        conversation = self._pick(index)
        change = {"title": title, "metadata": {"number": number}}
        if self._change(conversation, "PATCH", "", change):
            conversation.title, conversation.metadata = title, change["metadata"]

    @needs_conversation
    @rule(index=indices, undo=booleans)
    def archive(self, index: int, undo: bool) -> None:
        """Archive or unarchive a conversation."""
        conversation = self._pick(index)
        if self._change(conversation, "POST", "/unarchive" if undo else "/archive", {}):
            conversation.status = "active" if undo else "archived"

    @needs_conversation
    @rule(index=indices)
    def bundle_messages(self, index: int) -> None:
        """Move the messages into a bundle, as the archival does."""
        conversation = self._pick(index, deleted=False)
        if conversation is not None:
            with self.environment.processes[0].app_context():
                bundle_conversation(conversation.owner.id, conversation.id)
            conversation.status = "archived"

    @needs_conversation
    @rule(index=indices)
    def delete(self, index: int) -> None:
        """Delete a conversation."""
        conversation = self._pick(index)
        if self._change(conversation, "DELETE", "", None, 204):
            conversation.deleted = True

    @needs_conversation
    @rule(index=indices)
    def copy(self, index: int) -> None:
        """Export a conversation and import the document as another one."""
        conversation = self._pick(index)
        exported = self.request(conversation.owner, "GET", f"/api/conversations/{conversation.id}/export")
        assert exported.status_code == (404 if conversation.deleted else 200), exported.json
        if conversation.deleted:
            return
        response = self.request(conversation.owner, "POST", "/api/conversations/import", exported.get_json())
        assert response.status_code == 201, response.json
        self._add(
            ConversationModel(
                conversation.owner,
                response.json["id"],
                conversation.title,
                conversation.status,
                conversation.metadata,
                [*conversation.messages],
            )
        )

    @needs_conversation
    @rule(index=indices, message=texts)
    def access_as_other_user(self, index: int, message: str) -> None:
        """Try every request for a conversation as the other user."""
        conversation = self._pick(index)
        other = next(user for user in self.users if user is not conversation.owner)
        path = f"/api/conversations/{conversation.id}"
        attempts: list[tuple[str, str, Any]] = [
            ("GET", path, None),
            ("GET", f"{path}/messages", None),
            ("GET", f"{path}/export", None),
            ("PATCH", path, {"title": message}),
            ("POST", f"{path}/archive", {}),
            ("POST", f"{path}/unarchive", {}),
            ("DELETE", path, None),
            ("POST", "/api/chat", {"message": message, "conversation_id": conversation.id}),
        ]
        for turn_id in {request.turn_id for request in self.requests if request.conversation is conversation}:
            attempts += [("GET", f"/api/turns/{turn_id}", None), ("POST", f"/api/turns/{turn_id}/cancel", {})]
            attempts += [("GET", f"/api/turns/{turn_id}/events", None)]
        for method, attempted, body in attempts:
            assert self.request(other, method, attempted, body).status_code == 404, (method, attempted)

    # Comparison with the model

    @invariant()
    def last_conversation_matches_model(self) -> None:
        """Compare the conversation of the last rule."""
        if self.last is not None:
            self._compare(self.last)

    def teardown(self) -> None:
        """Compare every conversation, and the lists."""
        for conversation in self.conversations:
            self._compare(conversation)
        for owner in self.users:
            for status in ("active", "archived"):
                listed = [
                    conversation
                    for conversation in self.conversations
                    if conversation.owner is owner and not conversation.deleted and conversation.status == status
                ]
                listed.sort(key=lambda conversation: -conversation.updated)
                items = self._all_pages(owner, f"/api/conversations?status={status}")
                assert [item["id"] for item in items] == [conversation.id for conversation in listed]

    def _compare(self, conversation: ConversationModel) -> None:
        response = self.request(conversation.owner, "GET", f"/api/conversations/{conversation.id}")
        if conversation.deleted:
            assert response.status_code == 404
            return
        expected = conversation.as_json()
        actual = {name: response.json[name] for name in expected}
        assert actual == expected, f"{actual} instead of {expected}"
        path = f"/api/conversations/{conversation.id}/messages?limit={PAGE_LIMIT}"
        messages = self._all_pages(conversation.owner, path)
        assert [(m["role"], m["content"], m["metadata"].get("partial")) for m in messages] == conversation.messages
        assert [m["position"] for m in messages] == list(range(1, len(messages) + 1))

    def _all_pages(self, owner: LoggedInUser, path: str) -> list[Any]:
        items, cursor = [], ""
        while cursor is not None:
            response = self.request(owner, "GET", path + (f"&cursor={cursor}" if cursor else ""))
            assert response.status_code == 200, response.json
            items += response.json["items"]
            cursor = response.json["next_cursor"]
        return items

    # Requests

    def request(
        self, user: LoggedInUser, method: str, path: str, body: Any = None, *, key: str | None = None
    ) -> TestResponse:
        """Send a request to the processes in turn."""
        self.request_count += 1
        client = self.environment.processes[self.request_count % 2].test_client()
        headers = {**user.headers, **({"Idempotency-Key": key} if key else {})}
        return client.open(path, method=method, json=body, headers=headers)

    def chat(
        self, user: LoggedInUser, body: dict[str, Any], key: str | None, stream: bool
    ) -> tuple[int, StreamChecker, Any]:
        """Send a chat request; return its status, the events received, and the problem document if it failed."""
        checker = StreamChecker()
        response = self.request(user, "POST", "/api/chat", {**body, "stream": stream}, key=key)
        if response.status_code != 200:
            return response.status_code, checker, response.get_json()
        if stream:
            checker.feed(response.get_data())
            assert checker.errors == [], checker.errors
        else:
            document = response.get_json()
            checker.turn_id, checker.message = document["turn"]["id"], document["message"]
            checker.final_event = f"turn.{document['turn']['status']}"
            checker.conversation_id = document["conversation"]["id"]
        return 200, checker, None

    def _chat_completed(
        self, conversation: ConversationModel, body: dict[str, Any], stream: bool, with_key: bool
    ) -> None:
        key = uuid4().hex if with_key else None
        status, checker, problem = self.chat(conversation.owner, body, key, stream)
        assert (status, checker.final_event) == (200, "turn.completed"), problem
        if not conversation.id:
            conversation.id = str(checker.conversation_id)
            self._add(conversation)
        assert checker.conversation_id == conversation.id
        question = self._add_question(conversation, body["message"])
        conversation.add_answer(conversation.expected_answer(body["message"], question))
        if key:
            self._add_request(conversation, key, body, question, str(checker.turn_id), "completed", checker.message)

    def _add_question(self, conversation: ConversationModel, message: str) -> int:
        conversation.add_question(message)
        return len(conversation.messages) - 1

    def _add_request(
        self,
        conversation: ConversationModel,
        key: str,
        body: dict[str, Any],
        index: int,
        turn_id: str,
        status: str,
        answer: dict[str, Any] | None = None,
    ) -> None:
        count = len(conversation.messages)
        self.requests.append(
            ChatRequestModel(conversation.owner, key, body, conversation, index, turn_id, status, answer, count)
        )

    def _check_busy(self, conversation: ConversationModel, body: dict[str, Any], key: str) -> None:
        path = f"/api/conversations/{conversation.id}"
        for method, attempted, sent in (
            ("POST", "/api/chat", {**body, "message": "another message"}),
            ("POST", f"{path}/archive", {}),
            ("DELETE", path, None),
        ):
            response = self.request(conversation.owner, method, attempted, sent)
            assert (response.status_code, response.json["code"]) == (409, "conversation_busy"), (method, attempted)
        assert self.request(conversation.owner, "PATCH", path, {"title": conversation.title}).status_code == 200
        reused = self.request(conversation.owner, "POST", "/api/chat", {**body, "message": "another body"}, key=key)
        assert reused.status_code == 422

    def _change(self, conversation: ConversationModel, method: str, path: str, body: Any, expected: int = 200) -> bool:
        """Send a request for the conversation; return False if it is deleted, which must give 404."""
        response = self.request(conversation.owner, method, f"/api/conversations/{conversation.id}{path}", body)
        assert response.status_code == (404 if conversation.deleted else expected), response.json
        return not conversation.deleted

    def _add(self, conversation: ConversationModel) -> None:
        conversation.touch()
        self.conversations.append(conversation)
        self.last = conversation

    def _pick(self, index: int, deleted: bool | None = None) -> Any:
        """Return one of the conversations, or None without one. `deleted` restricts the choice."""
        candidates = [item for item in self.conversations if deleted is None or item.deleted is deleted]
        if not candidates:
            return None
        self.last = candidates[index % len(candidates)]
        return self.last
