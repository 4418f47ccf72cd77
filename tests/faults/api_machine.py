"""Two people do whatever they like, through two processes; after each step the API shows what it should.

Each step is a rule of a Hypothesis state machine; the model is in `people.py`. The provider is real too, on loopback,
and says what it was shown, so that each answer is known beforehand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flask import Flask
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from werkzeug.test import TestResponse

from tests.factories import Account
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.faults.bundling import put_away
from tests.faults.ear import Ear
from tests.faults.people import Asked, Known

PAGE = 7  # messages, so that there are pages
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).filter(str.strip)
titles = st.none() | words
which = st.integers(0, 99)  # of those that there are
yes_or_no = st.booleans()
some_conversation = precondition(lambda machine: machine.known)
some_request = precondition(lambda machine: machine.asked)


@dataclass(frozen=True)
class Stage:
    """What all examples share: two processes on one database, a provider, and a way to make people."""

    processes: Sequence[Flask]
    upstream: Upstream
    make_user: Callable[[], Account]


class ApiMachine(RuleBasedStateMachine):
    """The rules, for two people of their own."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.people = [stage.make_user(), stage.make_user()]
        self.known: list[Known] = []
        self.asked: list[Asked] = []
        self.last: Known | None = None
        self.turn = 0

    # What people do

    @rule(who=which, title=titles, repeated=yes_or_no)
    def create(self, who: int, title: str | None, repeated: bool) -> None:
        made = Known(self.people[who % 2], title=title)
        key = uuid4().hex if repeated else None
        for _ in range(2 if repeated else 1):
            response = self.ask(made.owner, "POST", "/api/conversations", {"title": title}, key=key)
            assert response.status_code == 201, response.json
            assert made.id in ("", response.json["id"])
            made.id = response.json["id"]
        self._add(made)

    @rule(who=which, message=words, stream=yes_or_no, with_key=yes_or_no)
    def begin(self, who: int, message: str, stream: bool, with_key: bool) -> None:
        self._answered(Known(self.people[who % 2]), {"message": message}, stream, with_key)

    @some_conversation
    @rule(which=which, message=words, stream=yes_or_no, with_key=yes_or_no)
    def go_on(self, which: int, message: str, stream: bool, with_key: bool) -> None:
        there = self._pick(which)
        body = {"message": message, "conversation_id": there.id}
        if there.deleted:
            assert self.say(there.owner, body, None, stream)[0] == 404
        else:
            self._answered(there, body, stream, with_key)

    @some_conversation
    @rule(which=which, message=words, stream=yes_or_no, begun=yes_or_no)
    def meet_a_failure(self, which: int, message: str, stream: bool, begun: bool) -> None:
        """The provider refuses, or breaks off in the middle."""
        there = self._pick(which, deleted=False)
        if there is None:
            return
        self.stage.upstream.then(scripts.cut(after=2) if begun else scripts.refusal(500))
        body, key = {"message": message, "conversation_id": there.id}, uuid4().hex
        status, ear, problem = self.say(there.owner, body, key, stream)
        assert (status, ear.ending) == ((200, "turn.failed") if stream else (502, None)), problem
        place = self._said(there, message)
        if begun:
            there.answer("word0 word1 ", "failed")
        turn_id = ear.turn_id if stream else problem["turn_id"]
        self.asked.append(Asked(there.owner, key, body, there, place, turn_id, "failed", size=len(there.messages)))

    @some_conversation
    @rule(which=which, message=words, heard=yes_or_no)
    def cancel(self, which: int, message: str, heard: bool) -> None:
        """In the middle, from anywhere; meanwhile the conversation is nobody else's."""
        there = self._pick(which, deleted=False)
        if there is None:
            return
        self.stage.upstream.then(scripts.hang(after=1 if heard else 0))
        body, key, ear = {"message": message, "conversation_id": there.id}, uuid4().hex, Ear()
        stream = self.ask(there.owner, "POST", "/api/chat", {**body, "stream": True}, key=key)
        told = iter(stream.response)
        while not (ear.text if heard else ear.turn_id):
            ear.take(next(told))
        place = self._said(there, message)
        self._while_it_runs(there, body, key)
        cancelled = self.ask(there.owner, "POST", f"/api/turns/{ear.turn_id}/cancel", {})
        assert cancelled.status_code == 202, cancelled.json
        for piece in told:
            ear.take(piece)
        assert (ear.ending, ear.wrong) == ("turn.cancelled", [])
        if heard:
            there.answer("word0 ", "cancelled")
        assert ear.turn_id is not None
        self.asked.append(
            Asked(there.owner, key, body, there, place, ear.turn_id, "cancelled", size=len(there.messages))
        )

    @some_request
    @rule(which=which, stream=yes_or_no, fails=yes_or_no)
    def repeat(self, which: int, stream: bool, fails: bool) -> None:
        """The same request with the same key: told again, or run again where it failed and nothing came after it."""
        asked = self.asked[which % len(self.asked)]
        there = self.last = asked.conversation
        if there.deleted:
            return  # its key has gone with it
        runs = asked.status != "completed" and len(there.messages) == asked.size
        if runs and fails:
            self.stage.upstream.then(scripts.refusal(500))
        status, ear, problem = self.say(asked.owner, asked.body, asked.key, stream)
        if asked.status != "completed" and not runs:
            assert (status, problem["code"]) == (409, "conversation_moved_on")
            return
        if runs and fails:
            assert (status, ear.ending) == ((200, "turn.failed") if stream else (502, None)), problem
            there.status = "active"
            there.touch()
            return
        assert (status, ear.turn_id, ear.ending) == (200, asked.turn_id, "turn.completed"), problem
        if asked.status != "completed":
            there.status = "active"
            there.answer(there.expected(asked.body["message"], asked.place))
            asked.status, asked.answer, asked.size = "completed", ear.message, len(there.messages)
        assert ear.message == asked.answer
        assert ear.message["content"] == there.messages[ear.message["position"] - 1][1]

    @some_request
    @rule(which=which, message=words)
    def misuse_a_key(self, which: int, message: str) -> None:
        """For something else: refused, and nothing happens."""
        asked = self.asked[which % len(self.asked)]
        if asked.conversation.deleted:
            return
        self.last = asked.conversation
        other = {**asked.body, "message": message + "!"}
        if other["message"] != asked.body["message"]:
            assert self.say(asked.owner, other, asked.key, False)[0] == 422
        created = self.ask(asked.owner, "POST", "/api/conversations", {"title": message}, key=asked.key)
        assert created.status_code == 422, created.json

    @some_conversation
    @rule(which=which, title=titles, number=st.integers(-(2**53), 2**53))
    def rename(self, which: int, title: str | None, number: int) -> None:
        there = self._pick(which)
        change = {"title": title, "metadata": {"number": number}}
        if self._done(there, "PATCH", "", change):
            there.title, there.metadata = title, change["metadata"]

    @some_conversation
    @rule(which=which, back=yes_or_no)
    def archive(self, which: int, back: bool) -> None:
        there = self._pick(which)
        if self._done(there, "POST", "/unarchive" if back else "/archive", {}):
            there.status = "active" if back else "archived"

    @some_conversation
    @rule(which=which)
    def put_away(self, which: int) -> None:
        """What the archival does, behind everybody's back."""
        there = self._pick(which, deleted=False)
        if there is not None:
            with self.stage.processes[0].app_context():
                put_away(there.owner.id, there.id)
            there.status = "archived"

    @some_conversation
    @rule(which=which)
    def delete(self, which: int) -> None:
        there = self._pick(which)
        if self._done(there, "DELETE", "", None, 204):
            there.deleted = True

    @some_conversation
    @rule(which=which)
    def copy(self, which: int) -> None:
        """Out as a document, and in again as another conversation."""
        there = self._pick(which)
        exported = self.ask(there.owner, "GET", f"/api/conversations/{there.id}/export")
        assert exported.status_code == (404 if there.deleted else 200), exported.json
        if there.deleted:
            return
        response = self.ask(there.owner, "POST", "/api/conversations/import", exported.get_json())
        assert response.status_code == 201, response.json
        made = Known(there.owner, response.json["id"], there.title, there.status, there.metadata, [*there.messages])
        self._add(made)

    @some_conversation
    @rule(which=which, message=words)
    def try_what_is_somebody_elses(self, which: int, message: str) -> None:
        there = self._pick(which)
        stranger = next(person for person in self.people if person is not there.owner)
        own = f"/api/conversations/{there.id}"
        attempts: list[tuple[str, str, Any]] = [
            ("GET", own, None),
            ("GET", f"{own}/messages", None),
            ("GET", f"{own}/export", None),
            ("PATCH", own, {"title": message}),
            ("POST", f"{own}/archive", {}),
            ("POST", f"{own}/unarchive", {}),
            ("DELETE", own, None),
            ("POST", "/api/chat", {"message": message, "conversation_id": there.id}),
        ]
        for turn_id in {asked.turn_id for asked in self.asked if asked.conversation is there}:
            attempts += [("GET", f"/api/turns/{turn_id}", None), ("POST", f"/api/turns/{turn_id}/cancel", {})]
            attempts += [("GET", f"/api/turns/{turn_id}/events", None)]
        for method, path, body in attempts:
            assert self.ask(stranger, method, path, body).status_code == 404, (method, path)

    # What must be seen

    @invariant()
    def the_last_one_is_as_it_should_be(self) -> None:
        if self.last is not None:
            self._look_at(self.last)

    def teardown(self) -> None:
        """At the end everything is looked at."""
        for there in self.known:
            self._look_at(there)
        for owner in self.people:
            for status in ("active", "archived"):
                mine = [each for each in self.known if each.owner is owner and not each.deleted]
                wanted = sorted((each for each in mine if each.status == status), key=lambda each: -each.touched)
                shown = self._pages(owner, f"/api/conversations?status={status}")
                assert [item["id"] for item in shown] == [each.id for each in wanted]

    def _look_at(self, there: Known) -> None:
        response = self.ask(there.owner, "GET", f"/api/conversations/{there.id}")
        if there.deleted:
            assert response.status_code == 404
            return
        shown = {name: response.json[name] for name in there.shown()}
        assert shown == there.shown(), f"{shown} instead of {there.shown()}"
        shown = self._pages(there.owner, f"/api/conversations/{there.id}/messages?limit={PAGE}")
        assert [(m["role"], m["content"], m["metadata"].get("partial")) for m in shown] == there.messages
        assert [m["position"] for m in shown] == list(range(1, len(shown) + 1))

    def _pages(self, owner: Account, path: str) -> list[Any]:
        items, cursor = [], ""
        while cursor is not None:
            response = self.ask(owner, "GET", path + (f"&cursor={cursor}" if cursor else ""))
            assert response.status_code == 200, response.json
            items += response.json["items"]
            cursor = response.json["next_cursor"]
        return items

    # How it is done

    def ask(self, who: Account, method: str, path: str, body: Any = None, *, key: str | None = None) -> TestResponse:
        """One request, to either process in turn."""
        self.turn += 1
        client = self.stage.processes[self.turn % 2].test_client()
        headers = {**who.headers, **({"Idempotency-Key": key} if key else {})}
        return client.open(path, method=method, json=body, headers=headers)

    def say(self, who: Account, body: dict[str, Any], key: str | None, stream: bool) -> tuple[int, Ear, Any]:
        """Chat: the status, what was heard, and the problem if it was one."""
        response, ear = self.ask(who, "POST", "/api/chat", {**body, "stream": stream}, key=key), Ear()
        if response.status_code != 200:
            return response.status_code, ear, response.get_json()
        if stream:
            ear.take(response.get_data())
            assert ear.wrong == [], ear.wrong
        else:
            told = response.get_json()
            ear.turn_id, ear.message, ear.ending = told["turn"]["id"], told["message"], f"turn.{told['turn']['status']}"
            ear.conversation_id = told["conversation"]["id"]
        return 200, ear, None

    def _answered(self, there: Known, body: dict[str, Any], stream: bool, with_key: bool) -> None:
        key = uuid4().hex if with_key else None
        status, ear, problem = self.say(there.owner, body, key, stream)
        assert (status, ear.ending) == (200, "turn.completed"), problem
        if not there.id:
            there.id = str(ear.conversation_id)
            self._add(there)
        assert ear.conversation_id == there.id
        place = self._said(there, body["message"])
        there.answer(there.expected(body["message"], place))
        if key:
            turn_id, size = str(ear.turn_id), len(there.messages)
            self.asked.append(Asked(there.owner, key, body, there, place, turn_id, "completed", ear.message, size))

    def _said(self, there: Known, message: str) -> int:
        there.question(message)
        return len(there.messages) - 1

    def _while_it_runs(self, there: Known, body: dict[str, Any], key: str) -> None:
        own = f"/api/conversations/{there.id}"
        for method, path, sent in (
            ("POST", "/api/chat", {**body, "message": "me too"}),
            ("POST", f"{own}/archive", {}),
            ("DELETE", own, None),
        ):
            response = self.ask(there.owner, method, path, sent)
            assert (response.status_code, response.json["code"]) == (409, "conversation_busy"), (method, path)
        assert self.ask(there.owner, "PATCH", own, {"title": there.title}).status_code == 200
        assert self.ask(there.owner, "POST", "/api/chat", {**body, "message": "not it"}, key=key).status_code == 422

    def _done(self, there: Known, method: str, path: str, body: Any, expected: int = 200) -> bool:
        response = self.ask(there.owner, method, f"/api/conversations/{there.id}{path}", body)
        assert response.status_code == (404 if there.deleted else expected), response.json
        return not there.deleted

    def _add(self, made: Known) -> None:
        made.touch()
        self.known.append(made)
        self.last = made

    def _pick(self, number: int, deleted: bool | None = None) -> Any:
        """One of those that there are, or none."""
        found = [each for each in self.known if deleted is None or each.deleted is deleted]
        if not found:
            return None
        self.last = found[number % len(found)]
        return self.last
