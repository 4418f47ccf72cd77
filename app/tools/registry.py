"""The tools of a process: which of them a turn may call, and the bounded, cleaned and counted call of one."""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from app.config import Tools
from app.errors import ParleyError
from app.metrics.tools import ToolOutcome, record_tool_call
from app.services.interruption import interruptible_by
from app.text import without_controls
from app.tools.schema import argument_errors
from app.tools.tool import NAME_PATTERN, Tool, ToolContext, ToolError, ToolResult, ToolSource

MAX_TOOLS = 128  # of one request; OpenAI accepts no more

_NAME = re.compile(NAME_PATTERN)
_CUT = "\n[The result was cut: {characters} characters, of which the first {limit} are shown.]"

_log = logging.getLogger("parley.tools")


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """Result of a call. `uncertain`: it failed, but may have had its effect."""

    result: ToolResult
    uncertain: bool = False


class ToolRegistry:
    """The tools of `sources`. Thread-safe; one per process.

    `call_context` is entered around each call, so that services find their application. Tests may omit it.
    """

    def __init__(
        self,
        sources: Sequence[ToolSource],
        settings: Tools,
        call_context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._sources, self.settings, self._call_context = tuple(sources), settings, call_context

    def add(self, source: ToolSource) -> None:
        """Add a source after the others, before the process serves requests."""
        self._sources = (*self._sources, source)

    def tools_for(self, user_id: UUID, project_id: UUID | None = None) -> tuple[Tool, ...]:
        """Return the tools of all sources in a fixed order, with unique names; none if the operator disabled tools.

        Of two tools with one name, the first source's counts. At most MAX_TOOLS.
        """
        if not self.settings.enabled:
            return ()
        tools: dict[str, Tool] = {}
        for source in self._sources:
            try:
                offered = source.tools(user_id, project_id)
            except Exception:  # a source that fails costs its own tools only
                _log.exception("the tools of a source could not be listed")
                continue
            for tool in offered:
                if _NAME.fullmatch(tool.name) and len(tools) < MAX_TOOLS:
                    tools.setdefault(tool.name, tool)
        return tuple(tools.values())

    def find(self, name: str, user_id: UUID, project_id: UUID | None = None) -> Tool | None:
        """Return the tool of this name that the user may call; None if there is none."""
        return next((tool for tool in self.tools_for(user_id, project_id) if tool.name == name), None)

    def call(self, tool: Tool, context: ToolContext, arguments: Any) -> ToolResult:
        """Call `tool` and return its result; every failure is an error result. Raises nothing.

        The arguments are validated by the tool's schema, the time is limited by TOOL_CALL_TIMEOUT, the content is
        cleaned of control characters and cut to TOOL_RESULT_CHARS characters, and the call is counted.
        """
        return self.call_outcome(tool, context, arguments).result

    def call_outcome(self, tool: Tool, context: ToolContext, arguments: Any) -> CallOutcome:
        """Call `tool` as `call` does, and return whether a failed call may have had its effect."""
        began_at = time.monotonic()
        bounded = replace(context, until=min(context.until, began_at + self.settings.call_timeout))
        outcome: ToolOutcome
        uncertain = False
        try:
            if errors := _argument_errors(tool, arguments):
                result, outcome = ToolResult("The arguments do not fit. " + " ".join(errors), is_error=True), "invalid"
            else:
                with self._call_context(), interruptible_by(bounded.cancel_token):
                    result = tool.run(bounded, arguments)
                outcome = "failed" if result.is_error else "ok"
        except ToolError as error:
            result, outcome, uncertain = ToolResult(error.message, is_error=True), "failed", error.uncertain
        except ParleyError as error:
            result, outcome = ToolResult(_sentences(error), is_error=True), "failed"
        except Exception:
            _log.exception("a tool failed", extra={"tool": tool.name, "tool_source": tool.source})
            result, outcome, uncertain = ToolResult("The tool failed.", is_error=True), "crashed", True
        ended_at = time.monotonic()
        if outcome != "ok" and bounded.cancel_token.cancelled and ended_at < bounded.until:
            outcome = "cancelled"
        record_tool_call(tool.name, tool.source, outcome, ended_at - began_at)
        return CallOutcome(replace(result, content=self._cleaned(result.content)), uncertain)

    def _cleaned(self, content: str) -> str:
        limit = self.settings.result_chars
        cut = without_controls(content[: limit + 1])[:limit]
        return cut if len(content) <= limit else cut + _CUT.format(characters=len(content), limit=limit)


def _argument_errors(tool: Tool, arguments: Any) -> Sequence[str]:
    if not isinstance(arguments, Mapping):
        return ["They must be a JSON object."]
    return argument_errors(tool.input_schema, arguments)


def _sentences(error: ParleyError) -> str:
    """Return what a service reports, with the invalid fields."""
    fields = [f"{path}: {' '.join(messages)}" for path, messages in (error.fields or {}).items()]
    return " ".join([error.detail if not fields else "The arguments are invalid.", *fields])
