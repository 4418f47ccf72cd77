"""The rounds of a turn with tools, rebuilt: from stored events, or as events from stored messages.

message.delta*  tool.call+  tool.result+      one round, whose number is in `round`
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.turns.answer import Answer, CallResult, ToolRound
from app.turns.call_runner import UNKNOWN
from app.turns.event_buffer import DELTA, RESTARTED, STARTED, TOOL_CALL, TOOL_RESULT


class PartialAnswer:
    """The answer that the events of an attempt show, added in order."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._rounds: list[ToolRound] = []
        self._deltas: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._results: dict[str, CallResult] = {}
        self._round = 0

    def add(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add the next event. One that starts an attempt discards what came before."""
        if kind in (STARTED, RESTARTED):
            self._clear()
        elif kind == DELTA:
            self._end_round()
            self._deltas.append(data["text"])
        elif kind == TOOL_CALL:
            if data["round"] != self._round:
                self._end_round()
                self._round = data["round"]
            function = {"name": data["name"], "arguments": data["arguments"]}
            self._calls.append({"id": data["id"], "type": "function", "function": function})
        elif kind == TOOL_RESULT:
            self._results[data["id"]] = CallResult(data["id"], data["name"], data["content"], data["is_error"])

    def answer(self) -> Answer:
        """Return the answer so far; calls without a result get one that says so."""
        self._end_round()
        return Answer("".join(self._deltas), rounds=tuple(self._rounds))

    def _end_round(self) -> None:
        if not self._calls:
            return
        results = [self._results.get(call["id"]) or unknown_result(call) for call in self._calls]
        calls = self._calls if self._round else []
        self._rounds.append(ToolRound("".join(self._deltas), calls, results))
        self._deltas, self._calls, self._results = [], [], {}


def events_of_rounds(messages: Iterable[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the kinds and data of the events that stand for the stored messages of rounds, in order."""
    events: list[tuple[str, dict[str, Any]]] = []
    number, names = 0, dict[str, str]()
    for message in messages:
        if message["role"] == "tool":
            call_id, metadata = message["tool_call_id"], message.get("metadata") or {}
            result = {"id": call_id, "name": names.get(call_id) or metadata.get("tool"), "content": message["content"]}
            is_error = bool(metadata.get("is_error"))
            events.append((TOOL_RESULT, {**result, "is_error": is_error, "round": number}))
            continue
        number += 1
        if message["content"]:
            events.append((DELTA, {"text": message["content"]}))
        for call in message.get("tool_calls") or ():
            function = call["function"]
            names[call["id"]] = function["name"]
            data = {"id": call["id"], "name": function["name"], "arguments": function["arguments"], "round": number}
            events.append((TOOL_CALL, data))
    return events


def last_rounds(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those of a turn's messages before its answer that belong to the last attempt.

    An earlier attempt ended with an answer that calls no tools.
    """
    rounds: list[Mapping[str, Any]] = []
    for message in reversed(messages):
        if message["role"] == "assistant" and not message["tool_calls"]:
            break
        rounds.append(message)
    return rounds[::-1]


def unknown_result(call: Mapping[str, Any]) -> CallResult:
    """Return the result of a call that was perhaps made."""
    return CallResult(call["id"], call["function"]["name"], UNKNOWN, is_error=True)
