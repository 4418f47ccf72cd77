"""The demo provider: answers without any AI, so that Parley can be tried without a key.

It is deterministic and offline, names itself in every answer, and behaves as a real provider does: text in pieces,
usage, calls of the tools for the to-do list if the user asks for it, and a quotation of the files that it gets.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from app.providers.base import ChatMessage, ChatRequest, Completed, Provider, StreamEvent, TextDelta, Usage
from app.providers.configured import DEFAULT_MODELS
from app.providers.demo_files import about_files
from app.providers.demo_plan import Call, next_step
from app.text import shortened

_INTRODUCTION = "This is the demo, without any AI."


class DemoProvider(Provider):
    """The provider `demo`. `delay` is the pause before each word, in seconds."""

    name = "demo"
    default_model = DEFAULT_MODELS["demo"]

    def __init__(self, *, model: str | None = None, delay: float = 0) -> None:
        self.default_model = model or self.default_model
        self._delay = delay

    @contextmanager
    def stream(self, request: ChatRequest) -> Iterator[Iterator[StreamEvent]]:
        """Answer as `Provider.stream` does; never fails."""
        yield self._events(request)

    def ping(self, seconds: float) -> None:
        """Return at once: the demo is always reachable."""

    def _events(self, request: ChatRequest) -> Iterator[StreamEvent]:
        model = request.model or self.default_model
        prompt = sum(_words(message.text()) for message in request.messages)
        step = _next_step(request)
        if isinstance(step, Call):
            call = _tool_call(step, request.messages)
            yield Completed("tool_calls", model, Usage(prompt, _words(call["function"]["arguments"])), [call])
            return
        text = f"{_INTRODUCTION} {step or _answer(request.messages)}"
        for word in re.findall(r"\S+\s*", text):
            if self._delay:
                time.sleep(self._delay)
            yield TextDelta(word)
        yield Completed("stop", model, Usage(prompt, _words(text)))


def _next_step(request: ChatRequest) -> Call | str | None:
    """Return what the last message of the user asks for next, given the results after it."""
    messages = request.messages
    asked = max((index for index, message in enumerate(messages) if message.role == "user"), default=None)
    if asked is None:
        return None
    results = [message.content or "" for message in messages[asked + 1 :] if message.role == "tool"]
    tools = (tool.get("function", {}).get("name") for tool in request.tools)
    return next_step(messages[asked].content or "", results, tools)


def _tool_call(call: Call, messages: Sequence[ChatMessage]) -> dict[str, Any]:
    """Return the call in OpenAI's form. Its id depends on all messages, so it is another one in each round."""
    seen = "\0".join(f"{message.role}{message.content}{message.tool_calls}" for message in messages)
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {
        "id": f"call_demo_{hashlib.sha256(seen.encode(errors='replace')).hexdigest()[:16]}",
        "type": "function",
        "function": {"name": call.tool, "arguments": arguments},
    }


def _answer(messages: Sequence[ChatMessage]) -> str:
    last = messages[-1] if messages else ChatMessage("user", "")
    if last.role == "tool":
        return f"The tool returned: {shortened(last.content or 'nothing', 200)}"
    if (about := about_files(last)) is not None:
        return about
    earlier = sum(message.role != "system" for message in messages[:-1])
    return (
        f"You wrote: “{shortened(last.content or '', 80)}” "
        f"It received {earlier} earlier {'message' if earlier == 1 else 'messages'} of this conversation. "
        "Set OPENAI_API_KEY, OPENROUTER_API_KEY or OPENAI_BASE_URL for a real answer."
    )


def _words(text: str | None) -> int:
    return len((text or "").split())
