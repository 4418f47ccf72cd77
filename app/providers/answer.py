"""One answer, put together from chat.completion chunks."""

from typing import Any
from uuid import uuid4

from app.providers.base import Completed, Usage
from app.providers.sse import NotUnderstood
from app.text import clean_text

TEXT_CHARS = 1_000_000
ARGUMENT_CHARS = 1_000_000
TOOL_CALLS = 128
MAX_TOKENS = 2**31 - 1


class SaidError(Exception):
    """The provider reports a failure inside its answer; `error` is its error object, of whatever shape."""

    def __init__(self, error: Any) -> None:
        super().__init__("the provider reports a failure")
        self.error = error


class Answer:
    """What has been said so far. `take` one chunk after the other, then `completed`.

    `full` is set once TEXT_CHARS of text, or ARGUMENT_CHARS of tool calls, have come: the rest is not wanted, and the
    answer counts as cut by its length. `finished` is set once the provider named its reason to stop.
    """

    def __init__(self, model: str) -> None:
        self.finish_reason: str | None = None
        self.full = False
        self.began = False
        self._model = model
        self._answered_by: Any = None
        self._usage = Usage()
        self._room = TEXT_CHARS
        self._argument_room = ARGUMENT_CHARS
        self._calls: dict[object, dict[str, Any]] = {}

    def take(self, chunk: Any) -> str:
        """The text that this chunk adds, often none. Raises NotUnderstood for anything but a chunk, SaidError."""
        try:
            return self._take(chunk)
        except (AttributeError, IndexError, KeyError, TypeError):
            raise NotUnderstood("sent JSON that is not a chat completion") from None

    def completed(self) -> Completed:
        """The end. Raises NotUnderstood if nothing was said and no reason was given."""
        calls = [call for call in self._calls.values() if call["function"]["name"]]
        reason = "length" if self.full else self.finish_reason
        if reason is None:
            if not self.began:
                raise NotUnderstood("ended its answer without saying anything")
            reason = "tool_calls" if calls else "stop"
        if reason in ("length", "content_filter"):
            calls = []  # the last one is probably cut, and half a call must not be made
        for call in calls:  # some servers leave out what is needed to answer a call
            call["id"] = call["id"] or f"call_{uuid4().hex}"
            call["function"]["arguments"] = call["function"]["arguments"] or "{}"
        return Completed(reason, clean_text(str(self._answered_by or self._model))[:255], self._usage, calls or None)

    def _take(self, chunk: Any) -> str:
        if error := chunk.get("error"):
            raise SaidError(error)
        usage = chunk.get("usage")
        if usage:
            self._usage = Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        choices = chunk.get("choices")
        if not choices:
            if choices is None and not usage:
                raise KeyError
            return ""
        self._answered_by = self._answered_by or chunk.get("model")
        choice = choices[0]
        delta = choice.get("delta") or choice.get("message") or {}
        text = delta.get("content") or delta.get("refusal") or ""
        if text:
            text = self._text(text)
        if calls := delta.get("tool_calls"):
            self._pieces(calls)
        if reason := choice.get("finish_reason"):
            if reason == "error":
                raise SaidError(choice.get("error"))
            self.finish_reason = clean_text(str(reason))[:100]
        return text

    def _text(self, content: Any) -> str:
        if not isinstance(content, str):  # a list of parts, some of which are thoughts
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        self.began = True
        if len(content) > self._room:
            self.full = True
            content = content[: self._room]
        self._room -= len(content)
        return clean_text(content)

    def _pieces(self, pieces: list[dict[str, Any]]) -> None:
        self.began = True
        for piece in pieces:
            function = piece.get("function") or {}
            call = self._call(piece, function.get("name"))
            call["id"] = call["id"] or clean_text(piece.get("id") or "")
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            self._argument_room -= len(name) + len(arguments)
            if self._argument_room < 0:
                self.full = True
                return
            if name != call["function"]["name"]:  # some repeat it with every piece
                call["function"]["name"] += clean_text(name)
            call["function"]["arguments"] += clean_text(arguments)

    def _call(self, piece: dict[str, Any], name: str | None) -> dict[str, Any]:
        """The call that `piece` belongs to: by index, else by id, else the last one unless a new name begins."""
        key: object = piece.get("index")
        if key is None:
            key = piece.get("id") or (
                f"call {len(self._calls)}" if name or not self._calls else next(reversed(self._calls))
            )
        if key not in self._calls:
            if len(self._calls) == TOOL_CALLS:
                raise NotUnderstood(f"asked for more than {TOOL_CALLS} tool calls at once")
            self._calls[key] = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        return self._calls[key]


def _count(tokens: Any) -> int | None:
    return tokens if type(tokens) is int and 0 <= tokens <= MAX_TOKENS else None
