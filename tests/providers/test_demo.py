"""The demo provider: honest, deterministic, and on the same road as the real ones."""

import json
from typing import Any

import pytest

from app.providers.base import ChatMessage, ChatRequest, Completed, TextDelta, Usage
from app.providers.demo import DemoProvider
from tests.providers.conftest import Heard, listen

ADD_TASK = {"type": "function", "function": {"name": "add_task", "parameters": {"type": "object"}}}


def ask(*messages: ChatMessage, tools: tuple[dict[str, Any], ...] = ()) -> Heard:
    return listen(DemoProvider(), ChatRequest(messages, tools=tools))


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def test_it_says_what_it_is_and_comes_in_pieces() -> None:
    heard = ask(user("Hello there"))
    assert "This is the demo" in heard.text
    assert "“Hello there”" in heard.text
    assert len(heard.pieces) > 10
    assert heard.end == Completed("stop", "demo", Usage(2, len(heard.text.split())))


def test_it_is_deterministic() -> None:
    assert ask(user("twice")) == ask(user("twice"))


def test_it_shows_that_it_was_given_the_history() -> None:
    assert "0 earlier messages" in ask(user("one")).text
    heard = ask(ChatMessage("system", "Be kind."), user("one"), ChatMessage("assistant", "two"), user("three"))
    assert "“three”" in heard.text
    assert "2 earlier messages" in heard.text, "the system prompt is no part of the conversation"


def test_it_answers_under_the_model_s_name_that_was_asked_for() -> None:
    with DemoProvider().stream(ChatRequest([user("hi")], model="demo-2")) as events:
        *_, end = events
    assert isinstance(end, Completed)
    assert end.model == "demo-2"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("add a task: buy milk", "buy milk"),
        ("Add task buy milk", "buy milk"),
        ("Please add a to-do: buy\nmilk", "buy milk"),
        ("remind me to call “Zoë”", "call “Zoë”"),
        ("  REMIND ME TO sleep", "sleep"),
    ],
)
def test_it_calls_the_tool_for_a_to_do(text: str, title: str) -> None:
    heard = ask(user(text), tools=(ADD_TASK,))
    assert heard.text == ""
    assert heard.end is not None
    assert heard.end.finish_reason == "tool_calls"
    assert heard.end.tool_calls is not None
    (call,) = heard.end.tool_calls
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
def test_other_words_call_nothing(text: str) -> None:
    heard = ask(user(text), tools=(ADD_TASK,))
    assert heard.end is not None
    assert heard.end.tool_calls is None


def test_without_the_tool_it_only_talks() -> None:
    assert "“remind me to sleep”" in ask(user("remind me to sleep")).text


def test_it_leaves_no_longer_than_it_is_read() -> None:
    with DemoProvider(delay=0.001).stream(ChatRequest([user("hi")])) as events:
        assert isinstance(next(events), TextDelta)


def test_an_empty_context_is_survived() -> None:
    assert "demo" in ask().text
