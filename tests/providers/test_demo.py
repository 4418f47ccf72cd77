"""The demo provider: deterministic, and with the same interface as the others."""

import json
import time
from typing import Any

import pytest

from app.config import Provider as ProviderSettings
from app.providers.base import ChatMessage, ChatRequest, Completed, TextDelta, Usage
from app.providers.demo import DemoProvider
from app.providers.registry import ProviderRegistry
from tests.providers.conftest import Received, read_answer

ADD_TASK = {"type": "function", "function": {"name": "add_task", "parameters": {"type": "object"}}}


def ask(*messages: ChatMessage, tools: tuple[dict[str, Any], ...] = ()) -> Received:
    return read_answer(DemoProvider(), ChatRequest(messages, tools=tools))


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def test_answer_names_the_demo_and_is_streamed() -> None:
    received = ask(user("Hello there"))
    assert "This is the demo" in received.text
    assert "“Hello there”" in received.text
    assert len(received.pieces) > 10
    assert received.end == Completed("stop", "demo", Usage(2, len(received.text.split())))


def test_answer_is_deterministic() -> None:
    assert ask(user("twice")) == ask(user("twice"))


def test_answer_counts_earlier_messages() -> None:
    assert "0 earlier messages" in ask(user("one")).text
    received = ask(ChatMessage("system", "Be kind."), user("one"), ChatMessage("assistant", "two"), user("three"))
    assert "“three”" in received.text
    assert "2 earlier messages" in received.text, "the system prompt is no part of the conversation"


def test_answer_has_requested_model() -> None:
    with DemoProvider().stream(ChatRequest([user("hi")], model="demo-2")) as events:
        *_, end = events
    assert isinstance(end, Completed)
    assert end.model == "demo-2"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("add a task: buy milk", "Buy milk"),
        ("Add task buy milk", "Buy milk"),
        ("Please add a to-do: buy\nmilk", "Buy milk"),
        ("remind me to call “Zoë”", "Call “Zoë”"),
        ("  REMIND ME TO sleep", "Sleep"),
    ],
)
def test_todo_request_calls_the_tool(text: str, title: str) -> None:
    received = ask(user(text), tools=(ADD_TASK,))
    assert received.text == ""
    assert received.end is not None
    assert received.end.finish_reason == "tool_calls"
    assert received.end.tool_calls is not None
    (call,) = received.end.tool_calls
    assert call["type"] == "function"
    assert call["function"]["name"] == "add_task"
    assert json.loads(call["function"]["arguments"]) == {"title": title}
    confirmed = ask(
        user(text),
        ChatMessage("assistant", None, tool_calls=[call]),
        ChatMessage("tool", '{"id": 1}', tool_call_id=call["id"]),
        tools=(ADD_TASK,),
    )
    assert "demo" in confirmed.text
    assert '{"id": 1}' in confirmed.text
    assert confirmed.end is not None
    assert confirmed.end.finish_reason == "stop"


@pytest.mark.parametrize("text", ["what is a task?", "add a task:", "remind me to", "I said: remind me to sleep"])
def test_other_requests_call_no_tool(text: str) -> None:
    received = ask(user(text), tools=(ADD_TASK,))
    assert received.end is not None
    assert received.end.tool_calls is None


def test_todo_request_without_tool_gets_text() -> None:
    assert "“remind me to sleep”" in ask(user("remind me to sleep")).text


def test_stream_can_be_left_early() -> None:
    with DemoProvider(delay=0.001).stream(ChatRequest([user("hi")])) as events:
        assert isinstance(next(events), TextDelta)


def test_setting_is_the_pause_before_each_word() -> None:
    registry = ProviderRegistry(ProviderSettings(DEMO_PAUSE_MS=2, AI_PROVIDER="demo"))  # type: ignore[call-arg]
    begun = time.monotonic()
    received = read_answer(registry.default, ChatRequest([user("hi")]))
    assert time.monotonic() - begun >= 0.002 * len(received.pieces)


def test_empty_context_is_answered() -> None:
    assert "demo" in ask().text
