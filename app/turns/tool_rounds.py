"""The tools of one attempt: the definitions that the model gets, and the rounds in which it calls them."""

import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from app.config import Tools
from app.metrics.registry import OTHER
from app.metrics.tools import record_tool_call
from app.outbound.cancellation import CancelToken
from app.tools.registry import ToolRegistry
from app.tools.schema import argument_errors
from app.tools.tool import ToolContext, ToolResult
from app.turns.answer import CallResult
from app.turns.call_ledger import CallLedger
from app.turns.call_runner import CallRunner, seconds_for
from app.turns.event_buffer import TOOL_CALL, TOOL_RESULT
from app.turns.pending import PendingCalls
from app.turns.stream import RunningTurn
from app.turns.tool_calls import ToolCall, read_calls

DECLINED = "The user declined this call. It was not made."
_CUT = "\n[The result was cut, because the results of this turn have {limit} characters.]"


class ToolRounds:
    """The tools that the turn may call, and the limits of its rounds. Not thread-safe."""

    def __init__(
        self,
        registry: ToolRegistry,
        engine: Engine,
        turn: RunningTurn,
        allowed: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
    ) -> None:
        """Choose the turn's tools. `allowed` are the names of those that the project offers; None for all.

        `scopes` are those of the caller's API key; None for a session, which may do everything.
        """
        self._registry, self._turn, self._settings = registry, turn, registry.settings
        self._ledger = CallLedger(engine, turn)
        offered = registry.tools_for(turn.user_id, turn.project_id)
        self._tools = {
            tool.name: tool
            for tool in offered
            if (allowed is None or tool.name in allowed)
            and (scopes is None or tool.scope is None or tool.scope in scopes)
        }
        self._count = 0
        self._until = 0.0  # of all rounds; counted from the first call
        self._ids: set[str] = set()  # of earlier calls
        self._ordinals: dict[tuple[str, str], int] = {}
        self._chars_left = self._settings.total_result_chars
        self._answered: Mapping[str, CallResult] = {}

    @property
    def definitions(self) -> Sequence[dict[str, Any]]:
        """The tools as OpenAI function definitions."""
        return [tool.definition for tool in self._tools.values()]

    @property
    def used_up(self) -> bool:
        """Whether the model must now answer without tools."""
        return self._count > 0 and (self._count >= self._settings.max_rounds or time.monotonic() >= self._until)

    def read(self, sent: Sequence[dict[str, Any]]) -> list[ToolCall]:
        """Return the calls of the model's answer, made safe."""
        return read_calls(sent, self._ids)

    def need_approval(self, calls: Sequence[ToolCall]) -> bool:
        """Return whether the user must approve one of the calls."""
        return any(self._needs_approval(call) for call in calls)

    def run(self, calls: Sequence[ToolCall]) -> list[CallResult]:
        """Make the calls, and append them and their results to the turn's events."""
        self._count += 1
        return self._run(calls, {call.id: self._call_key(call) for call in calls}, self._turn.id)

    def run_approved(self, pending: PendingCalls) -> list[CallResult]:
        """Make the calls that an earlier turn has left to the user's approval; decline those that are not approved."""
        calls = [
            replace(call, problem=DECLINED) if self._needs_approval(call) and call.id not in pending.approved else call
            for call in self.read(pending.calls)
        ]
        # What an earlier attempt has made stays made, although it is declined now.
        self._answered = {
            call.id: pending.answered[call.id]
            for call in calls
            if call.id in pending.answered and call.problem == DECLINED
        }
        return self._run(calls, {call.id: _key(pending.turn_id, call, call.id) for call in calls}, pending.turn_id)

    def _needs_approval(self, call: ToolCall) -> bool:
        tool = self._tools.get(call.name)
        return tool is not None and tool.needs_approval and call.problem is None

    def _run(self, calls: Sequence[ToolCall], keys: Mapping[str, str], ledger_turn_id: UUID) -> list[CallResult]:
        self._until = self._until or time.monotonic() + self._settings.total_timeout
        for call in calls:
            sent = call.as_sent()
            data = {"id": call.id, "name": call.name, "arguments": sent["function"]["arguments"]}
            self._turn.events.append(TOOL_CALL, {**data, "round": self._count})

        def run_call(call: ToolCall, token: CancelToken) -> CallResult:
            if call.id in self._answered:
                return self._answered[call.id]
            result = self._result_of(call, keys[call.id], ledger_turn_id, token)
            return CallResult(call.id, call.name, result.content, result.is_error)

        runner = CallRunner(calls, run_call, self._finish_call)
        settings: Tools = self._settings
        seconds = seconds_for(
            len(calls), parallel=settings.parallel, call_timeout=settings.call_timeout, until=self._until
        )
        return runner.run(parallel=settings.parallel, seconds=seconds, stop=self._turn.cancel_token)

    def _result_of(self, call: ToolCall, call_key: str, ledger_turn_id: UUID, cancel_token: CancelToken) -> ToolResult:
        """Make one call, in a thread of its own."""
        tool, turn = self._tools.get(call.name), self._turn
        problem = call.problem
        if tool is None:
            problem = f"There is no tool {call.name}. The tools are: {', '.join(self._tools) or 'none'}."
        if tool is None or problem is not None:
            if problem != DECLINED:
                record_tool_call(OTHER, OTHER, "invalid", 0)
            return ToolResult(problem or "", is_error=True)
        context = ToolContext(
            turn.user_id,
            call_key,
            turn_id=turn.id,
            conversation_id=turn.conversation_id,
            project_id=turn.project_id,
            cancel_token=cancel_token,
            until=self._until,
        )
        if tool.repeatable or argument_errors(tool.input_schema, call.arguments):
            return self._registry.call(tool, context, call.arguments)
        return self._ledger.call_once(
            ledger_turn_id, call_key, tool.name, lambda: self._registry.call_outcome(tool, context, call.arguments)
        )

    def _finish_call(self, result: CallResult) -> CallResult:
        """Cut the result to what is left of the turn's limit, and append it to the turn's events."""
        if len(result.content) > self._chars_left:
            note = _CUT.format(limit=self._settings.total_result_chars)
            result = CallResult(result.call_id, result.name, result.content[: self._chars_left] + note, result.is_error)
        self._chars_left = max(0, self._chars_left - len(result.content))
        self._turn.events.append(
            TOOL_RESULT,
            {
                "id": result.call_id,
                "name": result.name,
                "content": result.content,
                "is_error": result.is_error,
                "round": self._count,
            },
        )
        return result

    def _call_key(self, call: ToolCall) -> str:
        """Return a key that a new attempt of the turn computes again for the same call: it has another id then."""
        kind = (call.name, call.canonical_arguments)
        ordinal = self._ordinals[kind] = self._ordinals.get(kind, -1) + 1
        return _key(self._turn.id, call, str(ordinal))


def _key(turn_id: UUID, call: ToolCall, distinction: str) -> str:
    return hashlib.sha256(f"{turn_id}\n{call.name}\n{distinction}\n{call.canonical_arguments}".encode()).hexdigest()
