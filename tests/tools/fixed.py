"""Tools of the tests, and the source that offers them."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from app.tools.tool import Tool, ToolContext, ToolError, ToolResult

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def make_tool(name: str = "say", run: Callable[..., ToolResult] | None = None, **more: Any) -> Tool:
    """Return a tool that takes a `text`, and returns it unless `run` is given."""
    values = {
        "title": name,
        "description": "Repeats a text.",
        "input_schema": TEXT,
        "run": run or (lambda context, arguments: ToolResult(arguments["text"])),
        "repeatable": True,
        "read_only": True,
        "destructive": False,
    }
    return Tool(name=name, **values | more)


class FixedTools:
    """A source that offers the same tools to all users."""

    def __init__(self, *tools: Tool) -> None:
        self.offered = list(tools)

    def tools(self, user_id: UUID, project_id: UUID | None) -> Sequence[Tool]:
        return self.offered


class Recorder:
    """Tools that record their calls: `say` returns its text, `fail` raises, `hang` waits until it is cancelled.

    `deaf` ignores its deadline and waits until `released` is set; `note` must not be repeated.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        self.contexts: list[ToolContext] = []
        self.running = self.peak = 0
        self.released = threading.Event()
        self._lock = threading.Lock()
        self.source = FixedTools(
            *(
                make_tool(name, self._recorded(name, run), repeatable=name != "note")
                for name, run in {
                    "say": lambda context, arguments: ToolResult(arguments["text"]),
                    "note": lambda context, arguments: ToolResult(f"noted {arguments['text']}"),
                    "fail": _fail,
                    "hang": _hang,
                    "slow": _slow,
                    "deaf": self._deaf,
                }.items()
            )
        )

    def _recorded(self, name: str, run: Callable[..., ToolResult]) -> Callable[..., ToolResult]:
        def recorded(context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
            with self._lock:
                self.calls.append((name, arguments))
                self.contexts.append(context)
                self.running += 1
                self.peak = max(self.peak, self.running)
            try:
                return run(context, arguments)
            finally:
                with self._lock:
                    self.running -= 1

        return recorded

    def _deaf(self, context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
        self.released.wait(60)
        return ToolResult("too late")


def _fail(context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
    raise ToolError(f"No: {arguments['text']}.")


def _hang(context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
    stopped = threading.Event()
    context.cancel_token.attach(stopped.set)
    if not stopped.wait(max(0.0, context.until - time.monotonic())):
        raise ToolError("The tool did not answer in time.", uncertain=True)
    raise ToolError("The call was cancelled.", uncertain=True)


def _slow(context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
    time.sleep(float(arguments["text"]))
    return ToolResult(f"slept {arguments['text']}")
