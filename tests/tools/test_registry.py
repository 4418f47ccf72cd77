"""The registry: which tools are offered, and the call of one, which never raises."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from uuid import UUID

import pytest

from app.config import Tools
from app.errors import InvalidInput, NotFound
from app.ids import new_id
from app.tools.registry import ToolRegistry
from app.tools.tool import Tool, ToolContext, ToolError, ToolResult
from tests.metrics.scrape import Since
from tests.settings import default_settings
from tests.tools.fixed import FixedTools, make_tool

USER = UUID(int=1)


class Broken:
    def tools(self, user_id: UUID, project_id: UUID | None) -> Sequence[Tool]:
        raise RuntimeError("the list is broken")


@pytest.fixture(scope="module")
def limits() -> Tools:
    return default_settings().tools


def make(*sources: Any, limits: Tools, context: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Any:
    return ToolRegistry(sources, limits, context)


def call(found: Tool, arguments: Any, limits: Tools, **context: Any) -> ToolResult:
    registry = make(FixedTools(found), limits=limits)
    return registry.call(found, ToolContext(USER, call_key=str(new_id()), **context), arguments)


def test_tools_have_fixed_order_and_unique_legal_names(limits: Tools) -> None:
    first, second = make_tool("b", source="builtin"), make_tool("b", source="other")
    registry = make(
        FixedTools(first, make_tool("a")), Broken(), FixedTools(second, make_tool("no dots.")), limits=limits
    )
    assert [(found.name, found.source) for found in registry.tools_for(USER)] == [("b", "builtin"), ("a", "builtin")]
    assert registry.find("b", USER) is first
    assert registry.find("c", USER) is None


def test_disabled_tools_are_not_offered(limits: Tools) -> None:
    registry = make(FixedTools(make_tool()), limits=limits.model_copy(update={"enabled": False}))
    assert registry.tools_for(USER) == ()
    assert registry.find("say", USER) is None


def test_call_runs_in_the_context_with_a_time_limit(limits: Tools) -> None:
    entered = []

    @contextmanager
    def application() -> Any:
        entered.append(True)
        yield

    def run(context: ToolContext, arguments: Any) -> ToolResult:
        assert entered
        return ToolResult(str(context.until - time.monotonic() <= limits.call_timeout), data={"a": 1})

    found = make_tool(run=run)
    result = make(FixedTools(found), limits=limits, context=application).call(
        found, ToolContext(USER, "k"), {"text": ""}
    )
    assert result == ToolResult("True", data={"a": 1})


@pytest.mark.parametrize("arguments", [None, [], "text", 5, {}, {"text": 1}])
def test_arguments_that_do_not_fit_are_an_error_result(arguments: Any, limits: Tools, since: Since) -> None:
    def run(context: ToolContext, arguments: Any) -> ToolResult:
        raise AssertionError("called")

    result = call(make_tool(run=run), arguments, limits)
    assert result.is_error
    assert result.content.startswith("The arguments do not fit.")
    assert since.counted("tool_calls_total", tool="say", source="builtin", outcome="invalid") == 1


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (ToolError("The shop is closed."), "The shop is closed."),
        (NotFound("There is no such task."), "There is no such task."),
        (InvalidInput(fields={"title": ["Too long."]}), "The arguments are invalid. title: Too long."),
        (RuntimeError("postgresql://user:secret@host"), "The tool failed."),
    ],
)
def test_failure_of_a_tool_is_an_error_result(error: Exception, content: str, limits: Tools, since: Since) -> None:
    def run(context: ToolContext, arguments: Any) -> ToolResult:
        raise error

    assert call(make_tool(run=run), {"text": ""}, limits) == ToolResult(content, is_error=True)
    outcome = "crashed" if isinstance(error, RuntimeError) else "failed"
    assert since.counted("tool_calls_total", tool="say", source="builtin", outcome=outcome) == 1


def test_content_is_cleaned_and_cut(limits: Tools) -> None:
    assert call(make_tool(), {"text": "a\x00\x1b[31mb\r\nc\td\u202e\ud800"}, limits).content == "a[31mb\nc\td\ufffd"
    long = call(make_tool(), {"text": "x" * 3_000_000}, limits).content
    assert len(long) < limits.result_chars + 200
    assert "3000000 characters, of which the first 50000 are shown" in long
