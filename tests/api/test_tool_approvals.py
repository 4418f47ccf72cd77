"""Calls that the user must approve: the turn ends with them, and another one makes or declines them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.container import services
from app.turns.context import NOT_APPROVED
from app.turns.tool_rounds import DECLINED
from tests.api.conftest import events_of
from tests.bundling import bundle_conversation
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.chat_rules import violation
from tests.fakes.upstream import Upstream
from tests.tools.fixed import Recorder, make_tool

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]
Approve = Callable[..., TestResponse]
KEY = {"Idempotency-Key": "k"}
TWO_CALLS = scripts.calls(("a", "send", '{"text": "one"}'), ("b", "send", '{"text": "two"}'), text="May I?")


@pytest.fixture
def tools(chat_app: Flask) -> Iterator[Recorder]:
    """Offer `say`, and `send`, which needs approval and must not be repeated."""
    recorder = Recorder()
    with chat_app.app_context():
        registry = services().tools
    sources, registry._sources = registry._sources, ()
    say = recorder.source.offered[0]
    send = make_tool("send", say.run, needs_approval=True, repeatable=False)
    recorder.source.offered = [say, send]
    registry.add(recorder.source)
    yield recorder
    registry._sources = sources


@pytest.fixture
def approve(chat_app: Flask, user: LoggedInUser) -> Approve:
    """Return a function that approves calls of a turn."""

    def post(turn: str, approved: Any, *, account: LoggedInUser = user, headers: Any = (), **body: Any) -> TestResponse:
        return chat_app.test_client().post(
            f"/api/turns/{turn}/tool_approvals",
            json={"approved": approved, **body},
            headers={**account.headers, **dict(headers)},
        )

    return post


@pytest.fixture
def pending(chat: Chat, upstream: Upstream, tools: Recorder) -> dict[str, Any]:
    """Return the answer of a turn that has ended with two calls."""
    upstream.queue_scripts(TWO_CALLS)
    return chat("hello").get_json()


def stored(rows: Rows, user: LoggedInUser) -> list[tuple[Any, ...]]:
    query = "SELECT role, content, tool_call_id FROM messages WHERE user_id = :u ORDER BY position"
    return [tuple(row) for row in rows(query, u=user.id)]


def sent(upstream: Upstream) -> Any:
    return upstream.requests[-1].body["messages"]


def test_turn_ends_with_its_calls_and_without_making_them(
    pending: dict[str, Any], tools: Recorder, rows: Rows, user: LoggedInUser
) -> None:
    assert pending["turn"]["status"] == "completed"
    assert pending["turn"]["finish_reason"] == "tool_approval"
    assert pending["message"]["content"] == "May I?"
    assert [call["id"] for call in pending["message"]["tool_calls"]] == ["a", "b"]
    assert tools.calls == []
    assert rows("SELECT running_attempt FROM conversations WHERE user_id = :u", u=user.id)[0].running_attempt is None


def test_approved_calls_are_made_and_the_others_declined(
    pending: dict[str, Any], approve: Approve, upstream: Upstream, tools: Recorder, rows: Rows, user: LoggedInUser
) -> None:
    body = approve(pending["turn"]["id"], ["b"]).get_json()
    assert body["turn"]["status"] == "completed"
    assert body["turn"]["id"] != pending["turn"]["id"]
    assert [arguments["text"] for _, arguments in tools.calls] == ["two"]
    assert stored(rows, user)[1:] == [
        ("assistant", "May I?", None),
        ("tool", DECLINED, "a"),
        ("tool", "two", "b"),
        ("assistant", body["message"]["content"], None),
    ]
    assert [message["role"] for message in sent(upstream)] == ["user", "assistant", "tool", "tool"]
    assert violation(sent(upstream)) is None


def test_stream_and_replay_of_the_approving_turn(
    pending: dict[str, Any], approve: Approve, chat_app: Flask, user: LoggedInUser, engine: Engine
) -> None:
    events = events_of(approve(pending["turn"]["id"], ["a", "b"], stream=True))
    kinds = [kind for _, kind, _ in events]
    assert kinds[:5] == ["turn.started", *["tool.call"] * 2, *["tool.result"] * 2]
    assert {data["round"] for _, kind, data in events if kind.startswith("tool.")} == {0}
    path = f"/api/turns/{events[0][2]['turn']['id']}/events"
    assert events_of(chat_app.test_client().get(path, headers=user.headers)) == events
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM turn_events WHERE user_id = %s", (user.id,))
    rebuilt = events_of(chat_app.test_client().get(path, headers=user.headers))
    assert [data["content"] for _, kind, data in rebuilt if kind == "tool.result"] == ["one", "two"]
    assert rebuilt[-1] == events[-1]


def test_new_message_declines_what_is_pending(
    pending: dict[str, Any], chat: Chat, approve: Approve, upstream: Upstream, tools: Recorder
) -> None:
    assert chat("never mind", conversation_id=pending["conversation"]["id"]).status_code == 200
    assert violation(sent(upstream)) is None
    assert [message["role"] for message in sent(upstream)] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert results(upstream) == {"a": NOT_APPROVED, "b": NOT_APPROVED}
    refused = approve(pending["turn"]["id"], ["a"])
    assert refused.status_code == 409
    assert refused.get_json()["type"].endswith("conversation_moved_on")
    assert tools.calls == []


def test_calls_are_approved_once(pending: dict[str, Any], approve: Approve, tools: Recorder) -> None:
    assert approve(pending["turn"]["id"], ["a"]).status_code == 200
    assert approve(pending["turn"]["id"], ["b"]).status_code == 409
    assert len(tools.calls) == 1


def test_repeated_approval_with_the_same_key_is_replayed(
    pending: dict[str, Any], approve: Approve, tools: Recorder
) -> None:
    key = {"Idempotency-Key": "k"}
    first = approve(pending["turn"]["id"], ["a"], headers=key)
    again = approve(pending["turn"]["id"], ["a"], headers=key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.get_json() == first.get_json()
    assert approve(pending["turn"]["id"], ["b"], headers=key).status_code == 422
    assert len(tools.calls) == 1


@pytest.mark.parametrize(("first", "second"), [({}, {}), (KEY, KEY), (KEY, {}), ({}, KEY)])
def test_failed_approval_is_retried_without_repeating_calls(
    first: dict[str, str],
    second: dict[str, str],
    pending: dict[str, Any],
    approve: Approve,
    upstream: Upstream,
    tools: Recorder,
    rows: Rows,
    user: LoggedInUser,
) -> None:
    upstream.queue_scripts(scripts.api_error(500))
    assert approve(pending["turn"]["id"], ["a", "b"], headers=first).status_code >= 500
    assert len(tools.calls) == 2
    again = approve(pending["turn"]["id"], ["a", "b"], headers=second)
    assert again.status_code == 200
    assert len(tools.calls) == 2
    assert violation(sent(upstream)) is None
    assert results(upstream) == {"a": "one", "b": "two"}
    assert approve(pending["turn"]["id"], ["a", "b"]).status_code == 409


def test_failed_approval_can_be_decided_differently(
    pending: dict[str, Any], approve: Approve, chat: Chat, upstream: Upstream, tools: Recorder
) -> None:
    """What was made stays made; what was declined is made once it is approved."""
    upstream.queue_scripts(scripts.api_error(500))
    assert approve(pending["turn"]["id"], ["a"]).status_code >= 500
    assert approve(pending["turn"]["id"], ["b"]).status_code == 200
    assert [arguments["text"] for _, arguments in tools.calls] == ["one", "two"]
    assert results(upstream) == {"a": "one", "b": "two"}
    assert chat("go on", conversation_id=pending["conversation"]["id"]).status_code == 200
    assert violation(sent(upstream)) is None
    assert results(upstream) == {"a": "one", "b": "two"}


def test_failed_approval_is_ended_by_a_new_message(
    pending: dict[str, Any], approve: Approve, chat: Chat, upstream: Upstream, tools: Recorder
) -> None:
    upstream.queue_scripts(scripts.api_error(500))
    assert approve(pending["turn"]["id"], ["a"]).status_code >= 500
    assert chat("go on", conversation_id=pending["conversation"]["id"]).status_code == 200
    assert results(upstream) == {"a": "one", "b": DECLINED}
    assert approve(pending["turn"]["id"], ["a"]).status_code == 409
    assert len(tools.calls) == 1


def results(upstream: Upstream) -> dict[str, str]:
    """Return the results that the last request to the provider contains."""
    return {message["tool_call_id"]: message["content"] for message in sent(upstream) if message["role"] == "tool"}


def test_turn_that_approves_may_end_with_further_calls(
    pending: dict[str, Any], approve: Approve, upstream: Upstream, tools: Recorder
) -> None:
    upstream.queue_scripts(
        scripts.calls(("c", "say", '{"text": "three"}')), scripts.calls(("d", "send", '{"text": "four"}'))
    )
    second = approve(pending["turn"]["id"], ["a", "b"]).get_json()
    assert second["turn"]["finish_reason"] == "tool_approval"
    third = approve(second["turn"]["id"], ["d"]).get_json()
    assert third["turn"]["finish_reason"] == "stop"
    made = [arguments["text"] for _, arguments in tools.calls]
    assert (sorted(made[:2]), made[2:]) == (["one", "two"], ["three", "four"])
    assert violation(sent(upstream)) is None


def test_calls_of_a_bundled_conversation_can_be_approved(
    pending: dict[str, Any], approve: Approve, chat_app: Flask, user: LoggedInUser, tools: Recorder
) -> None:
    with chat_app.app_context():
        bundle_conversation(user.id, pending["conversation"]["id"])
    assert approve(pending["turn"]["id"], ["a"]).status_code == 200
    assert len(tools.calls) == 1


@pytest.mark.parametrize(
    ("approved", "status"), [(["c"], 400), (None, 400), ("a", 400), ([1], 400), ([["a"]], 400), (["a"] * 33, 400)]
)
def test_invalid_approval_is_refused(
    approved: Any, status: int, pending: dict[str, Any], approve: Approve, tools: Recorder
) -> None:
    assert approve(pending["turn"]["id"], approved).status_code == status
    assert tools.calls == []


def test_turn_without_pending_calls_and_of_others_cannot_be_approved(
    chat: Chat, pending: dict[str, Any], approve: Approve, other_user: LoggedInUser, tools: Recorder
) -> None:
    done = chat("hello").get_json()["turn"]["id"]
    assert approve(done, []).status_code == 409
    assert approve(pending["turn"]["id"], ["a"], account=other_user).status_code == 404
    assert approve("018f0000-0000-7000-8000-000000000000", ["a"]).status_code == 404
    assert tools.calls == []


def test_options_of_an_approval_are_used_and_stored_with_its_answer(
    pending: dict[str, Any], approve: Approve, upstream: Upstream
) -> None:
    options = {"temperature": 0.25, "history": 4, "tools": ["send"]}
    body = approve(pending["turn"]["id"], ["a"], options=options).get_json()
    assert body["message"]["metadata"] == {"options": options}
    assert upstream.requests[-1].body["temperature"] == 0.25
    assert [tool["function"]["name"] for tool in upstream.requests[-1].body["tools"]] == ["send"]
    assert violation(sent(upstream)) is None
