"""Turns with tools: what the model gets, what is stored, and what bounds a turn."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import QueuePool
from werkzeug.test import TestResponse

from app.extensions import db
from app.services.quotas import set_quota
from app.tools.tool import ToolContext, ToolResult
from tests.api.tool_loop.conftest import ids_in, sent
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.chat_rules import violation
from tests.fakes.upstream import Upstream
from tests.tools.fixed import Recorder, make_tool

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def test_calls_and_results_are_stored_in_order(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]], user: LoggedInUser
) -> None:
    upstream.queue_scripts(
        scripts.calls(("a", "say", '{"text": "one"}'), ("b", "fail", '{"text": "two"}'), text="Let me look."),
        scripts.calls(("c", "say", '{"text": "three"}')),
        scripts.words(2),
    )
    body = chat("hello").get_json()
    assert body["turn"]["status"] == "completed"
    assert body["message"]["content"] == "word0 word1 "
    assert body["message"]["position"] == body["turn"]["answer_position"] == 7
    assert body["usage"] == {"input_tokens": 9 + 9 + 7, "output_tokens": 3 + 3 + 2}
    stored = messages()
    assert [(row.role, row.content, row.tool_call_id) for row in stored] == [
        ("user", "hello", None),
        ("assistant", "Let me look.", None),
        ("tool", "one", "a"),
        ("tool", "No: two.", "b"),
        ("assistant", None, None),
        ("tool", "three", "c"),
        ("assistant", "word0 word1 ", None),
    ]
    assert [call["id"] for call in stored[1].tool_calls] == ["a", "b"]
    assert stored[3].metadata == {"tool": "fail", "is_error": True}
    context = tools.contexts[0]
    assert str(context.user_id) == str(user.id)
    assert str(context.turn_id) == body["turn"]["id"]
    assert str(context.conversation_id) == body["conversation"]["id"]
    assert len({context.call_key for context in tools.contexts}) == 3


def test_provider_gets_definitions_and_results(chat: Chat, upstream: Upstream, tools: Recorder) -> None:
    upstream.queue_scripts(scripts.calls(("a", "say", '{"text": "one"}')), scripts.words(1))
    conversation = chat("hello").get_json()["conversation"]["id"]
    assert [tool["function"]["name"] for tool in sent(upstream)["tools"]] == [
        tool.name for tool in tools.source.offered
    ]
    assert sent(upstream)["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "say", "arguments": '{"text":"one"}'}}],
        },
        {"role": "tool", "content": "one", "tool_call_id": "a"},
    ]
    chat("and then?", conversation_id=conversation)
    assert [message["role"] for message in sent(upstream)["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert violation(sent(upstream)["messages"]) is None


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("nothing", "{}", "There is no tool nothing. The tools are: say, note"),
        ("say it!", "{}", "There is no tool say_it_."),
        ("say", "{}", "The arguments do not fit. text: missing."),
        ("say", '{"text": 1}', "text: must be of type string"),
        ("say", '{"text": "a"', "not valid JSON"),
        ("say", "no json", "They were: no json"),
        ("say", "[1]", "must be a JSON object"),
        ("say", '"text"', "must be a JSON object"),
        ("say", '{"text": "a\\u0000b"}', "NUL"),
        ("say", '{"text": NaN}', "not valid JSON"),
        ("say", '{"text": "' + "x" * 100_001 + '"}', "more than 100000 characters"),
        ("say", "[" * 5000 + "]" * 5000, "not valid JSON"),
    ],
)
def test_bad_call_is_answered_and_the_turn_continues(
    name: str,
    arguments: str,
    words: str,
    chat: Chat,
    upstream: Upstream,
    tools: Recorder,
    messages: Callable[[], list[Any]],
) -> None:
    upstream.queue_scripts(scripts.calls(("a", name, arguments)), scripts.words(1))
    body = chat("hello").get_json()
    assert body["turn"]["status"] == "completed"
    result = messages()[2]
    assert words in result.content
    assert result.metadata["is_error"] is True
    assert tools.calls == []
    assert violation(sent(upstream)["messages"]) is None


def test_duplicate_call_id_is_answered_once(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    twice = [("a", "say", '{"text": "one"}'), ("a", "say", '{"text": "two"}'), ("b", "say", '{"text": "three"}')]

    upstream.queue_scripts(scripts.calls(*twice), scripts.words(1))
    assert chat("hello").get_json()["turn"]["status"] == "completed"
    assert sorted(arguments["text"] for _, arguments in tools.calls) == ["one", "three"]
    assert [row.tool_call_id for row in messages() if row.role == "tool"] == ["a", "b"]
    assert [call["id"] for call in messages()[1].tool_calls] == ["a", "b"]


def test_rounds_are_bounded_and_the_model_then_answers(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    numbers = itertools.count()

    async def endless(exchange: Any) -> None:
        if exchange.json().get("tool_choice") == "none":
            await scripts.words(1)(exchange)
        else:
            await scripts.calls((f"id{next(numbers)}", "say", '{"text": "again"}'))(exchange)

    upstream.script = endless
    body = chat("hello").get_json()
    assert body["message"]["content"] == "word0 "
    assert len(tools.calls) == 3
    assert [row.role for row in messages()] == ["user", *["assistant", "tool"] * 3, "assistant"]


def test_calls_without_end_are_not_made_after_the_last_round(chat: Chat, upstream: Upstream, tools: Recorder) -> None:
    numbers = itertools.count()

    async def stubborn(exchange: Any) -> None:
        await scripts.calls((f"id{next(numbers)}", "say", '{"text": "again"}'))(exchange)

    upstream.script = stubborn
    body = chat("hello").get_json()
    assert body["turn"]["status"] == "completed"
    assert body["message"]["content"] == ""
    assert body["message"]["tool_calls"] is None
    assert len(tools.calls) == 3


def test_calls_of_a_round_run_at_the_same_time_but_not_more_than_allowed(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    wanted = [(str(number), "slow", '{"text": "0.3"}') for number in range(4)]
    upstream.queue_scripts(scripts.calls(*wanted), scripts.words(1))
    assert chat("hello").get_json()["turn"]["status"] == "completed"
    assert tools.peak == 2
    assert [row.content for row in messages() if row.role == "tool"] == ["slept 0.3"] * 4


def test_no_connection_is_held_while_a_tool_waits(
    chat: Chat, upstream: Upstream, tools: Recorder, chat_app: Flask
) -> None:
    held = []

    def run(context: ToolContext, arguments: Any) -> ToolResult:
        with chat_app.app_context():
            pool = db.engine.pool
        assert isinstance(pool, QueuePool)
        held.append(pool.checkedout())
        return ToolResult("done")

    tools.source.offered = [make_tool("say", run)]
    upstream.queue_scripts(scripts.calls(("a", "say", '{"text": "one"}')), scripts.words(1))
    assert chat("hello").get_json()["turn"]["status"] == "completed"
    assert held == [0]


def test_tool_that_ignores_its_deadline_is_abandoned(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    upstream.queue_scripts(
        scripts.calls(("a", "deaf", '{"text": ""}'), ("b", "say", '{"text": "two"}')), scripts.words(1)
    )
    body = chat("hello").get_json()
    assert body["turn"]["status"] == "completed"
    first, second = (row for row in messages() if row.role == "tool")
    assert "Whether it had an effect is unknown" in first.content
    assert second.content == "two"


def test_results_of_a_turn_are_bounded(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    long = '{"text": "' + "x" * 800 + '"}'
    upstream.queue_scripts(scripts.calls(("a", "say", long)), scripts.calls(("b", "say", long)), scripts.words(1))
    assert chat("hello").get_json()["turn"]["status"] == "completed"
    first, second = (row.content for row in messages() if row.role == "tool")
    assert first == "x" * 800
    assert second.startswith("x" * 200 + "\n[The result was cut")


@pytest.mark.parametrize("waits", ["model", "tool"])
def test_cancel_in_a_round_stores_what_was_done_and_the_conversation_goes_on(
    waits: str,
    chat: Chat,
    upstream: Upstream,
    tools: Recorder,
    messages: Callable[[], list[Any]],
    chat_app: Flask,
    user: LoggedInUser,
) -> None:
    calls = [("a", "say", '{"text": "one"}'), *([("b", "hang", '{"text": ""}')] if waits == "tool" else [])]
    upstream.queue_scripts(scripts.calls(*calls), *([scripts.hang(after=1)] if waits == "model" else []))
    response = chat("hello", stream=True)
    stream = iter(response.response)
    seen = b""
    wanted = b"tool.result" if waits == "tool" else b"word0"
    while wanted not in seen:
        seen += next(stream)
    turn, conversation = ids_in(seen)
    assert chat_app.test_client().post(f"/api/turns/{turn}/cancel", headers=user.headers).status_code == 202
    rest = b"".join(stream)
    assert b"turn.cancelled" in rest
    stored = messages()
    roles = ["user", "assistant", "tool", *(["tool"] if waits == "tool" else []), "assistant"]
    assert [row.role for row in stored] == roles
    assert stored[-1].metadata["partial"] == "cancelled"
    assert stored[-1].content == ("" if waits == "tool" else "word0 ")
    body = chat("go on", conversation_id=conversation).get_json()
    assert body["turn"]["status"] == "completed"
    assert violation(sent(upstream)["messages"]) is None


def test_failure_after_a_round_keeps_it_and_the_retry_answers(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    one = scripts.calls(("a", "say", '{"text": "one"}'))
    upstream.queue_scripts(one, scripts.api_error(500), one, scripts.words(1))
    failed = chat("hello", headers={"Idempotency-Key": "k"})
    assert failed.status_code >= 500
    assert [row.role for row in messages()] == ["user", "assistant", "tool", "assistant"]
    body = chat("hello", headers={"Idempotency-Key": "k"}).get_json()
    assert body["turn"]["status"] == "completed"
    assert [row.role for row in messages()][4:] == ["assistant", "tool", "assistant"]
    assert [message["role"] for message in sent(upstream)["messages"]] == ["user", "assistant", "tool"]


def test_usage_of_each_round_is_charged(
    chat: Chat, upstream: Upstream, tools: Recorder, user: LoggedInUser, chat_app: Flask, rows: Rows
) -> None:
    with chat_app.app_context():
        set_quota(user_id=user.id, tokens_per_day=100_000)
    upstream.queue_scripts(scripts.calls(("a", "say", '{"text": "one"}'), counted=(100, 20)), scripts.hang(after=1))
    stream = iter(chat("hello", stream=True).response)
    seen = b""
    while b"word0" not in seen:
        seen += next(stream)
    turn, _ = ids_in(seen)
    chat_app.test_client().post(f"/api/turns/{turn}/cancel", headers=user.headers)
    b"".join(stream)
    charged = rows("SELECT quota_tokens, quota_estimated, input_tokens FROM turns WHERE user_id = :u", u=user.id)[0]
    assert 120 < charged.quota_tokens < 200
    assert charged.quota_estimated is True
    assert charged.input_tokens == 100


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        (404, "No endpoints found that support tool use. To learn more about provider routing, visit: ..."),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        (400, "Unrecognized request argument supplied: tools"),
        (422, "tools: Extra inputs are not permitted"),
    ],
)
def test_model_that_rejects_tools_is_asked_without_them(
    status: int, message: str, chat: Chat, upstream: Upstream, tools: Recorder
) -> None:
    async def without_tools(exchange: Any) -> None:
        if "tools" in exchange.json():
            await scripts.api_error(status, message)(exchange)
        else:
            await scripts.words(1)(exchange)

    upstream.script = without_tools
    body = chat("hello", model=f"plain-{status}-{len(message)}").get_json()
    assert body["message"]["content"] == "word0 "
    assert body["message"]["metadata"]["dropped_options"] == ["tools"]
    count = len(upstream.requests)
    assert chat("again", model=f"plain-{status}-{len(message)}").status_code == 200
    assert len(upstream.requests) == count + 1


@pytest.mark.parametrize(("allowed", "offered"), [(["say"], ["say"]), ([], None), (None, 6), (["none such"], None)])
def test_project_offers_fewer_tools(
    allowed: Any,
    offered: Any,
    chat: Chat,
    upstream: Upstream,
    tools: Recorder,
    chat_client: FlaskClient,
    user: LoggedInUser,
    messages: Callable[[], list[Any]],
) -> None:
    settings = {"tools": allowed, "temperature": 0.5}
    project = chat_client.post(
        "/api/projects", json={"name": "p", "settings": settings}, headers=user.headers
    ).get_json()
    assert project["settings"] == settings
    upstream.script = scripts.calls_tool("note", '{"text": "one"}')
    body = chat("hello", project_id=project["id"]).get_json()
    assert body["turn"]["status"] == "completed"
    sent_tools = [tool["function"]["name"] for tool in sent(upstream).get("tools", [])] or None
    assert sent_tools == offered if offered != 6 else len(sent_tools or ()) == 6
    assert sent(upstream)["temperature"] == 0.5
    assert len(tools.calls) == (1 if allowed is None else 0)
    if offered == ["say"]:
        assert messages()[2].content == "There is no tool note. The tools are: say."
