"""Calls that must not be repeated, in turns that are retried."""

from collections.abc import Callable
from typing import Any

from werkzeug.test import TestResponse

from app.tools.tool import ToolContext, ToolResult
from app.turns.call_ledger import OUTCOME_UNKNOWN
from tests.factories import LoggedInUser
from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.tools.fixed import Recorder, make_tool

Chat = Callable[..., TestResponse]
Rows = Callable[..., list[Any]]


def test_retried_turn_takes_the_stored_result_of_a_call_that_must_not_be_repeated(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]], rows: Rows, user: LoggedInUser
) -> None:
    first = scripts.calls(("a", "note", '{"text": "one", "n": 1}'), ("b", "note", '{"n": 1, "text": "one"}'))
    again = scripts.calls(("c", "note", '{"n": 1,"text": "one"}'), ("d", "note", '{"text": "one", "n": 1}'))
    upstream.queue_scripts(first, scripts.api_error(500), again, scripts.words(1))
    assert chat("hello", headers={"Idempotency-Key": "k"}).status_code >= 500
    assert len(tools.calls) == 2
    assert chat("hello", headers={"Idempotency-Key": "k"}).get_json()["turn"]["status"] == "completed"
    assert len(tools.calls) == 2
    assert [row.content for row in messages() if row.role == "tool"] == ["noted one"] * 4
    recorded = rows("SELECT state, content, tool FROM tool_calls WHERE user_id = :u", u=user.id)
    assert [tuple(row) for row in recorded] == [("done", "noted one", "note")] * 2


def test_call_with_other_arguments_or_once_more_is_made(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    upstream.queue_scripts(
        scripts.calls(("a", "note", '{"text": "one"}')),
        scripts.api_error(500),
        scripts.calls(("a", "note", '{"text": "two"}')),
        scripts.calls(("b", "note", '{"text": "one"}'), ("c", "note", '{"text": "one"}')),
        scripts.words(1),
    )
    assert chat("hello", headers={"Idempotency-Key": "k"}).status_code >= 500
    assert chat("hello", headers={"Idempotency-Key": "k"}).status_code == 200
    assert sorted(arguments["text"] for _, arguments in tools.calls) == ["one", "one", "two"]


def test_uncertain_call_is_not_repeated_by_a_retry(
    chat: Chat, upstream: Upstream, tools: Recorder, messages: Callable[[], list[Any]]
) -> None:
    def run(context: ToolContext, arguments: Any) -> ToolResult:
        count.append(1)
        raise RuntimeError

    count: list[int] = []
    tools.source.offered = [make_tool("send", run, repeatable=False)]
    call = scripts.calls(("a", "send", '{"text": "one"}'))
    upstream.queue_scripts(call, scripts.api_error(500), call, scripts.words(1))
    assert chat("hello", headers={"Idempotency-Key": "k"}).status_code >= 500
    assert chat("hello", headers={"Idempotency-Key": "k"}).status_code == 200
    assert len(count) == 1
    results = [row.content for row in messages() if row.role == "tool"]
    assert results == ["The tool failed.", OUTCOME_UNKNOWN]


def test_invalid_call_is_not_recorded(
    chat: Chat, upstream: Upstream, tools: Recorder, rows: Rows, user: LoggedInUser
) -> None:
    upstream.queue_scripts(scripts.calls(("a", "note", "{}")), scripts.words(1))
    assert chat("hello").status_code == 200
    assert rows("SELECT 1 FROM tool_calls WHERE user_id = :u", u=user.id) == []
