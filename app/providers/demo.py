"""The demo: answers without any AI, so that Parley can be tried on a machine that has nothing.

It is deterministic and offline, says in every answer that it is the demo, and goes the same way as a real provider:
pieces, usage, a tool call when a to-do is asked for.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.providers.base import ChatMessage, ChatRequest, Completed, Provider, StreamEvent, TextDelta, Usage
from app.text import shortened

TOOL = "add_task"
_WISH = re.compile(
    r"\s*(?:please\s+)?(?:add (?:a )?(?:task|todo|to-do):?|remind me to)\s+(?P<title>\S.*)", re.IGNORECASE | re.DOTALL
)


class DemoProvider(Provider):
    """`delay` is the pause before each word, in seconds."""

    name = "demo"
    default_model = "demo"

    def __init__(self, *, model: str | None = None, delay: float = 0) -> None:
        self.default_model = model or self.default_model
        self._delay = delay

    @contextmanager
    def stream(self, request: ChatRequest) -> Iterator[Iterator[StreamEvent]]:
        """See Provider; never fails."""
        yield self._events(request)

    def ping(self, seconds: float) -> None:
        """It is always there."""

    def _events(self, request: ChatRequest) -> Iterator[StreamEvent]:
        model = request.model or self.default_model
        given = sum(_words(message.content) for message in request.messages)
        if title := _wish(request):
            arguments = json.dumps({"title": title}, ensure_ascii=False)
            call = {"id": f"call_demo_{len(request.messages)}", "type": "function"}
            function = {"name": TOOL, "arguments": arguments}
            yield Completed("tool_calls", model, Usage(given, _words(arguments)), [{**call, "function": function}])
            return
        text = _answer(request.messages)
        for word in re.findall(r"\S+\s*", text):
            if self._delay:
                time.sleep(self._delay)
            yield TextDelta(word)
        yield Completed("stop", model, Usage(given, _words(text)))


def _answer(messages: Sequence[ChatMessage]) -> str:
    last = messages[-1] if messages else ChatMessage("user", "")
    if last.role == "tool":
        return f"This is the demo, without any AI. The tool has answered: {shortened(last.content or 'nothing', 200)}"
    earlier = sum(message.role != "system" for message in messages[:-1])
    return (
        f"This is the demo, without any AI. You wrote: “{shortened(last.content or '', 80)}” "
        f"I was given {earlier} earlier {'message' if earlier == 1 else 'messages'} of this conversation. "
        "Set OPENAI_API_KEY, OPENROUTER_API_KEY or OPENAI_BASE_URL for a real answer."
    )


def _wish(request: ChatRequest) -> str | None:
    """The to-do that the last message asks for, if there is a tool for it."""
    if not request.messages or request.messages[-1].role != "user":
        return None
    if not any(tool.get("function", {}).get("name") == TOOL for tool in request.tools):
        return None
    match = _WISH.match(request.messages[-1].content or "")
    return shortened(match["title"], 200) if match else None


def _words(text: str | None) -> int:
    return len((text or "").split())
