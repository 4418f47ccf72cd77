"""The tool calls that a model has sent, made safe to store, to run and to send back.

Models repeat ids, invent names and write arguments that are no JSON. Providers reject a later request whose history
contains such calls, so each is brought into a form that all accept, and its result states what was wrong.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.text import clean_text, shortened

MAX_CALLS = 32  # of one round; more are answered with an error
MAX_ARGUMENT_CHARS = 100_000
_ID_LIMIT, _NAME_LIMIT = 100, 64


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a round. `arguments` are the parsed JSON; `problem` is the reason why it cannot be made, if so."""

    id: str
    name: str
    arguments: Any
    problem: str | None = None

    @property
    def canonical_arguments(self) -> str:
        """The arguments as JSON with sorted keys: equal for equal calls."""
        return orjson.dumps(self.arguments, option=orjson.OPT_SORT_KEYS).decode()

    def as_sent(self) -> dict[str, Any]:
        """Return the call in OpenAI's form."""
        arguments = orjson.dumps(self.arguments).decode()
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


def read_calls(sent: Iterable[dict[str, Any]], earlier_ids: set[str]) -> list[ToolCall]:
    """Return the calls of one answer, each id once, and add their ids to `earlier_ids`.

    An id that an earlier round has used gets another one, because results refer to it.
    """
    calls: dict[str, ToolCall] = {}
    for item in sent:
        sent_id = clean_text(str(item["id"]))[:_ID_LIMIT]
        if sent_id not in calls:
            calls[sent_id] = _read(item, _new_id(sent_id, earlier_ids), too_many=len(calls) >= MAX_CALLS)
    earlier_ids.update(call.id for call in calls.values())
    return list(calls.values())


def _new_id(sent_id: str, earlier_ids: set[str]) -> str:
    call_id, number = sent_id, 2
    while call_id in earlier_ids:
        call_id, number = f"{sent_id}_{number}", number + 1
    return call_id


def _read(item: dict[str, Any], call_id: str, *, too_many: bool) -> ToolCall:
    function = item["function"]
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", function["name"])[:_NAME_LIMIT] or "unknown"
    if too_many:
        return ToolCall(call_id, name, {}, f"The call was not made: at most {MAX_CALLS} calls are made at once.")
    arguments, problem = _parse(function["arguments"])
    return ToolCall(call_id, name, arguments, problem)


def _parse(text: str) -> tuple[Any, str | None]:
    if len(text) > MAX_ARGUMENT_CHARS:
        return {}, f"The call was not made: its arguments have more than {MAX_ARGUMENT_CHARS} characters."
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return (
            {},
            f"The call was not made: its arguments are not valid JSON ({error}). They were: {shortened(text, 200)}",
        )
    if not isinstance(arguments, dict):
        return {}, "The call was not made: its arguments must be a JSON object."
    if "\\u0000" in text and _has_nul(arguments):
        return {}, "The call was not made: its arguments contain the character NUL."
    return arguments, None


def _has_nul(value: Any) -> bool:
    parts: Sequence[Any] = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(value, str):
        return "\x00" in value
    return isinstance(value, dict | list) and any(map(_has_nul, parts))
