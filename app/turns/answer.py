"""The answer of an attempt, complete or partial, and the messages that are stored for it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from app.bounds import ANSWER_CONTENT_LIMIT, INTEGER_MAX
from app.enums import TurnStatus
from app.providers.base import ChatMessage, Completed, Usage
from app.text import is_blank
from app.turns.stream import TurnError


@dataclass(frozen=True, slots=True)
class CallResult:
    """The text that the model reads as result of the call `call_id` of the tool `name`."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ToolRound:
    """An answer of the model that calls tools: its text, if any, the calls in OpenAI's form, and a result for each.

    `calls` are empty if an earlier turn has made them, and the user has now approved them. `completed` and
    `sent_bytes`, the size of the request's texts, are None and 0 without a request, or if the round was read from
    events.
    """

    text: str
    calls: list[dict[str, Any]]
    results: Sequence[CallResult]
    completed: Completed | None = None
    sent_bytes: int = 0

    def context(self) -> list[ChatMessage]:
        """Return the messages with which the next request to the provider continues."""
        results = [ChatMessage("tool", result.content, tool_call_id=result.call_id) for result in self.results]
        if not self.calls:
            return results
        return [ChatMessage("assistant", None if is_blank(self.text) else self.text, self.calls), *results]

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages to store."""
        results = [*map(_tool_message, self.results)]
        if not self.calls:
            return results
        metadata = {"truncated": True} if len(self.text) > ANSWER_CONTENT_LIMIT else {}
        content = self.text[:ANSWER_CONTENT_LIMIT] or None
        return [
            {"role": "assistant", "content": content, "tool_calls": self.calls, "metadata": metadata},
            *results,
        ]


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of an attempt: the rounds with tools, then the text, which may be partial.

    `completed` is the end of the last request, if it came. `pending` are calls that the user must approve.
    """

    text: str
    completed: Completed | None = None
    since_first_token: float | None = None  # seconds; None without a token
    rounds: Sequence[ToolRound] = ()
    sent_bytes: int = 0  # of the last request; only counted after a round with tools
    pending: Sequence[dict[str, Any]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)  # about the files that the model has got

    @property
    def is_empty(self) -> bool:
        """Whether the model has sent neither text nor calls."""
        return not (self.text or self.rounds)

    @property
    def usage(self) -> Usage:
        """Tokens of all requests of the attempt, as far as the provider counted them."""
        ends = [end for end in (*(round_.completed for round_ in self.rounds), self.completed) if end is not None]
        return Usage(
            _sum(end.usage.input_tokens for end in ends),
            _sum(end.usage.output_tokens for end in ends),
        )


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """End of an answer. `error` is set if the status is `failed` or `interrupted`."""

    status: TurnStatus
    answer: Answer
    error: TurnError | None = None


def messages_of(
    status: TurnStatus, answer: Answer, more_metadata: Mapping[str, Any] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Return the messages to store, in order: of the rounds with tools, then the assistant's answer.

    The answer is the last one, and has `more_metadata`. A completed turn always has one, any other turn if the model
    has sent something.
    """
    if status is not TurnStatus.COMPLETED and answer.is_empty:
        return []
    metadata = {**more_metadata, **answer.metadata}
    if status is not TurnStatus.COMPLETED:
        metadata["partial"] = status.value
    if len(answer.text) > ANSWER_CONTENT_LIMIT:
        metadata["truncated"] = True
    if is_blank(answer.text) and not answer.pending:
        metadata["empty"] = True
    if answer.completed is not None and answer.completed.dropped_options:
        metadata["dropped_options"] = list(answer.completed.dropped_options)
    last: dict[str, Any] = {"role": "assistant", "content": answer.text[:ANSWER_CONTENT_LIMIT], "metadata": metadata}
    if answer.pending:
        last |= {"content": last["content"] or None, "tool_calls": list(answer.pending)}
    return [*(message for round_ in answer.rounds for message in round_.messages()), last]


def as_parameter(messages: Sequence[dict[str, Any]]) -> str:
    """Return the messages as the parameter of the statements that store them."""
    return orjson.dumps([{"ordinal": ordinal, **message} for ordinal, message in enumerate(messages)]).decode()


def _tool_message(result: CallResult) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tool": result.name, **({"is_error": True} if result.is_error else {})}
    return {"role": "tool", "content": result.content, "tool_call_id": result.call_id, "metadata": metadata}


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum of the known counts; None if none is known."""
    known = [count for count in counts if count is not None]
    return min(sum(known), INTEGER_MAX) if known else None
