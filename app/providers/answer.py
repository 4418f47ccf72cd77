"""One answer, assembled from chat.completion chunks."""

import re
from typing import Any, NoReturn
from uuid import uuid4

from app.providers.base import Completed, Usage
from app.providers.sse import ProtocolError
from app.text import clean_text

TEXT_CHARS = 1_000_000
ARGUMENT_CHARS = 1_000_000
TOOL_CALLS = 128
MAX_TOKENS = 2**31 - 1
_FAILURE = re.compile(r"[45]\d\d|err|fail|invalid|limit|exceed|denied|overload", re.IGNORECASE)
_REASONING = re.compile(r"think|reason", re.IGNORECASE)


class InBandError(Exception):
    """The provider reports a failure inside its answer: `error` is its error object, in any shape.

    `problem` is a predicate, as in `ProtocolError`.
    """

    def __init__(self, error: Any, problem: str = "reports a failure") -> None:
        super().__init__(problem)
        self.error, self.problem = error, problem


class Answer:
    """The answer so far. Call `add` with each chunk, then `completed`.

    `full` becomes true after TEXT_CHARS of text or ARGUMENT_CHARS of tool calls: reading stops there, and the answer
    counts as cut by its length. `began` becomes true with the first content.
    """

    def __init__(self, model: str, dropped_options: tuple[str, ...] = ()) -> None:
        self._dropped_options = dropped_options
        self.finish_reason: str | None = None
        self.full = False
        self.began = False
        self._model = model
        self._answered_by: Any = None
        self._usage = Usage()
        self._text_left = TEXT_CHARS
        self._unknown: Any = None  # the last chunk, if it has no answer in it: perhaps an error of an unknown shape
        self._message = ""  # the text so far of a server that sends it as messages instead of deltas
        self._half = ""  # a surrogate whose partner is still to come
        self._arguments_left = ARGUMENT_CHARS
        self._calls: dict[object, dict[str, Any]] = {}

    def add(self, chunk: Any) -> str:
        """Add a chunk and return its text, often none. A chunk without an answer in it, such as a ping, is skipped.

        Raises `InBandError` for a reported failure and `ProtocolError` for tool calls that cannot be read; never once
        the finish reason is known, because the content is complete then.
        """
        try:
            return self._add(chunk)
        except (AttributeError, IndexError, KeyError, TypeError):
            if self.finish_reason is not None:
                return ""
            raise ProtocolError("sent JSON that is not a chat completion") from None
        except (InBandError, ProtocolError):
            if self.finish_reason is not None:
                return ""
            raise

    def flush(self) -> str:
        """Return the text that was held back: half a character, whose other half did not come."""
        held, self._half = self._half, ""
        return clean_text(held)

    def completed(self) -> Completed:
        """Return the end event. Raises `ProtocolError` if the answer has neither content nor a finish reason."""
        calls = [call for call in self._calls.values() if call["function"]["name"]]
        reason = "length" if self.full else self.finish_reason
        if reason is None:
            if not self.began:
                self.raise_unfinished("ended its answer without any content")
            reason = "tool_calls" if calls else "stop"
        if reason in ("length", "content_filter"):
            calls = []  # the last one is probably incomplete and must not be executed
        for call in calls:  # some servers omit the id or the arguments
            call["id"] = call["id"] or f"call_{uuid4().hex}"
            call["function"]["arguments"] = clean_text(call["function"]["arguments"]) or "{}"
        model = clean_text(str(self._answered_by or self._model))[:255]
        return Completed(reason, model, self._usage, calls or None, self._dropped_options)

    def raise_unfinished(self, problem: str) -> NoReturn:
        """Raise the error of an answer that ended too early: the reason that its last unknown chunk gives, if any."""
        if self._unknown is not None:
            raise InBandError(self._unknown, problem)
        raise ProtocolError(problem)

    def _add(self, chunk: Any) -> str:
        if isinstance(chunk, list) and chunk:  # Google wraps errors in a list
            chunk = chunk[0]
        if not isinstance(chunk, dict):
            return ""
        choices = chunk.get("choices")
        if (error := reported_error(chunk)) is not None:
            raise InBandError(error)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage = Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
        choice = _first_choice(choices)
        if choice is None:
            self._unknown = None if choices or isinstance(usage, dict) else chunk or self._unknown
            return ""
        self._unknown = None
        self._answered_by = self._answered_by or chunk.get("model")
        text = self._add_text(self._content(choice))
        reason = choice.get("finish_reason")
        if reason == "error" or choice.get("error"):
            raise InBandError(choice.get("error") or chunk)
        if reason:
            self.finish_reason = clean_text(str(reason))[:100]
        return text

    def _content(self, choice: dict[str, Any]) -> str:
        """Add the tool calls of a choice and return its text.

        Some servers repeat the whole message in the last chunk: it counts only if nothing has come before.
        """
        delta, message = choice.get("delta"), choice.get("message")
        for given in (delta, message if not self.began or self._message else None):
            source = given if isinstance(given, dict) else {"content": given}
            text = _text_of(source.get("content")) or _text_of(source.get("refusal"))
            calls = source.get("tool_calls")
            if calls:
                self._add_tool_calls(calls)
            if text and given is delta:
                self._message = ""  # from here on, a message repeats the deltas
            elif text:
                text = self._new_part(text, is_last=bool(choice.get("finish_reason")))
            if text or calls:
                return text
        return _text_of(choice.get("text"))  # of the older completions API

    def _new_part(self, text: str, *, is_last: bool) -> str:
        """Return what a message adds to the ones before. The last one may repeat the whole text."""
        before, self._message = self._message, self._message + text
        return text[len(before) :] if is_last and text.startswith(before) else text

    def _add_text(self, content: str) -> str:
        if not content:
            return ""
        self.began = True
        if len(content) > self._text_left:
            self.full = True
            content = content[: self._text_left]
        self._text_left -= len(content)
        content, self._half = self._half + content, ""
        if "\ud800" <= content[-1] <= "\udbff":  # the first half of a character; the next delta has the second
            content, self._half = content[:-1], content[-1]
        return clean_text(content)

    def _add_tool_calls(self, pieces: list[dict[str, Any]]) -> None:
        self.began = True
        for piece in pieces:
            function = piece.get("function") or {}
            call = self._call(piece, function.get("name"))
            call["id"] = call["id"] or clean_text(piece.get("id") or "")
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            self._arguments_left -= len(name) + len(arguments)
            if self._arguments_left < 0:
                self.full = True
                return
            if name != call["function"]["name"]:  # some servers repeat it with every piece
                call["function"]["name"] += clean_text(name)
            call["function"]["arguments"] += arguments  # cleaned when complete: a piece may end inside a character

    def _call(self, piece: dict[str, Any], name: str | None) -> dict[str, Any]:
        """Return the call that `piece` belongs to: by index, else by id, else the last one unless it has a new name."""
        key: object = piece.get("index")
        if key is None:
            key = piece.get("id") or (
                f"call {len(self._calls)}" if name or not self._calls else next(reversed(self._calls))
            )
        if key not in self._calls:
            if len(self._calls) == TOOL_CALLS:
                raise ProtocolError(f"requested more than {TOOL_CALLS} tool calls at once")
            self._calls[key] = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        return self._calls[key]


def reported_error(chunk: dict[str, Any]) -> Any:
    """Return the error that a chunk or a JSON answer reports, in any of the shapes in use; None if it reports none."""
    if error := chunk.get("error") or chunk.get("errors"):
        return error if isinstance(error, dict | list | str) else chunk
    if chunk.get("object") == "error" or chunk.get("type") == "error":  # vLLM; Anthropic's style
        return chunk
    if chunk.get("choices"):
        return None
    if chunk.get("detail") or chunk.get("success") is False:  # FastAPI; Cloudflare
        return chunk
    has_text = any(isinstance(chunk.get(field), str) for field in ("message", "msg"))
    return chunk if has_text and any(_is_failure(chunk.get(field)) for field in ("code", "status")) else None


def _is_failure(code: Any) -> bool:
    """Return whether a code or a status stands for a failure: not 200, not "processing"."""
    if isinstance(code, int):
        return code >= 400
    return isinstance(code, str) and bool(
        re.search(r"[45]\d\d|err|fail|invalid|limit|exceed|denied|overload", code, re.I)
    )


def _first_choice(choices: Any) -> dict[str, Any] | None:
    """Return choice 0; None where there is none, also if a server sends several choices, a chunk each."""
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if isinstance(choice, dict) and choice.get("index") in (None, 0, "0"):
            return choice
    return None


def _text_of(content: Any) -> str:
    """Return the text of a content: a string, or parts of which some are reasoning."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return ""
    return "".join(_text_of_part(part) for part in content)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or _REASONING.search(str(part.get("type") or "")):
        return ""
    text = part.get("text") or part.get("refusal")
    if isinstance(text, dict):
        text = text.get("value")
    return text if isinstance(text, str) else ""


def _count(tokens: Any) -> int | None:
    return tokens if type(tokens) is int and 0 <= tokens <= MAX_TOKENS else None
