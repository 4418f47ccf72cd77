"""The context of a turn follows the rules of the strictest servers and contains all text of the user."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.base import ChatMessage
from app.turns.context import NO_ANSWER, NOT_APPROVED, NOT_SHOWN, build_context, build_pending_context
from tests.fakes.chat_rules import violation

CALL = {"id": "c1", "type": "function", "function": {"name": "add_task", "arguments": "{}"}}
OTHER_CALL = {**CALL, "id": "c2"}


def item(role: str, content: str | None = None, calls: Any = None, call_id: str | None = None) -> dict[str, Any]:
    return {"role": role, "content": content, "tool_calls": calls, "tool_call_id": call_id}


def as_sent(messages: list[ChatMessage]) -> list[dict[str, Any]]:
    fields = ("role", "content", "tool_calls", "tool_call_id")
    return [
        {name: value for name in fields if (value := getattr(message, name)) is not None or name == "content"}
        for message in messages
    ]


def short(messages: list[ChatMessage]) -> list[tuple[Any, ...]]:
    """Return each message as role and content, and the ids of calls if there are any."""
    return [
        (message.role, message.content, *([call["id"] for call in message.tool_calls or ()] and [message.tool_calls]))
        for message in messages
    ]


CALLS = st.lists(
    st.sampled_from(
        [CALL, OTHER_CALL, {}, {"id": "c1"}, {**CALL, "function": None}, {**CALL, "id": 7}, {**CALL, "index": 0}]
    ),
    max_size=3,
)
TEXTS = st.sampled_from([None, "", " ", "\u200b\n", "one", "two\nlines", "\ufeff "])
HISTORIES = st.lists(
    st.builds(
        item,
        st.sampled_from(["user", "assistant", "assistant", "tool", "tool", "system"]),
        TEXTS,
        st.none() | CALLS,
        st.sampled_from([None, "", "c1", "c2", "c3"]),
    ),
    max_size=12,
)


@given(prompts=st.none() | st.lists(st.just("Be brief."), max_size=3), history=HISTORIES)
def test_context_of_any_history_violates_no_rule(prompts: list[str] | None, history: list[dict[str, Any]]) -> None:
    context = build_context(prompts, history, "hello")
    assert violation(as_sent(context)) is None
    assert context[-1].role == "user"
    assert (context[-1].content or "").endswith("hello")


@given(history=HISTORIES)
def test_no_text_of_users_is_lost(history: list[dict[str, Any]]) -> None:
    context = build_context(None, history, "hello")
    sent = "".join(message.content or "" for message in context if message.role == "user")
    written = [entry["content"] for entry in history if entry["role"] == "user"]
    visible = [text for text in written if text in ("one", "two\nlines")]
    assert sent.replace("\n\n", "").removeprefix(NOT_SHOWN) == "".join([*visible, "hello"])


def test_unanswered_messages_are_merged() -> None:
    history = [item("user", "one"), item("assistant", "1"), item("user", "two"), item("user", "three")]
    assert short(build_context(None, history, "four")) == [
        ("user", "one"),
        ("assistant", "1"),
        ("user", "two\n\nthree\n\nfour"),
    ]


@pytest.mark.parametrize("answer", [None, "", " \n", "\u200b", "\ufeff\u2060"])
def test_answer_without_text_is_not_sent(answer: str | None) -> None:
    history = [item("user", "one"), item("assistant", answer)]
    assert short(build_context(None, history, "two")) == [("user", "one\n\ntwo")]


def test_system_messages_are_one_message_at_the_beginning() -> None:
    history = [item("system", "Be kind."), item("user", "one"), item("system", "Use French."), item("assistant", "1")]
    assert short(build_context(["Be brief.", "Be exact."], history, "two")) == [
        ("system", "Be brief.\n\nBe exact.\n\nBe kind.\n\nUse French."),
        ("user", "one"),
        ("assistant", "1"),
        ("user", "two"),
    ]


def test_history_that_begins_in_the_middle_of_a_turn_is_sent_from_its_first_user_message() -> None:
    history = [item("tool", "done", call_id="c1"), item("assistant", "1"), item("user", "two"), item("assistant", "2")]
    assert short(build_context(None, history, "three")) == [("user", "two"), ("assistant", "2"), ("user", "three")]


def test_complete_tool_calls_are_sent() -> None:
    history = [
        item("user", "one"),
        item("assistant", None, [CALL, OTHER_CALL]),
        item("tool", "second", call_id="c2"),
        item("tool", "", call_id="c1"),
        item("assistant", "1"),
    ]
    assert as_sent(build_context(None, history, "two")) == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, OTHER_CALL]},
        {"role": "tool", "content": "", "tool_call_id": "c1"},
        {"role": "tool", "content": "second", "tool_call_id": "c2"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]


def test_call_without_result_is_left_out_of_its_message() -> None:
    history = [
        item("user", "one"),
        item("assistant", "Just a moment.", [CALL, OTHER_CALL]),
        item("tool", "done", call_id="c2"),
    ]
    assert as_sent(build_context(None, history, "two")) == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "Just a moment.", "tool_calls": [OTHER_CALL]},
        {"role": "tool", "content": "done", "tool_call_id": "c2"},
        {"role": "assistant", "content": NO_ANSWER},
        {"role": "user", "content": "two"},
    ]


@pytest.mark.parametrize(
    "half",
    [
        [item("tool", "done", call_id="c1")],
        [item("assistant", None, [{}]), item("user", "two"), item("tool", "done", call_id="c1")],
        [item("assistant", None, [CALL]), item("tool", "done", call_id="c3")],
        [item("assistant", None, [CALL]), item("tool", "done")],
    ],
)
def test_half_of_a_tool_call_is_not_sent(half: list[dict[str, Any]]) -> None:
    context = build_context(None, [item("user", "one"), *half], "three")
    assert [message.role for message in context] == ["user"]


def test_text_of_a_call_without_result_is_sent() -> None:
    half = [item("assistant", "Just a moment.", [CALL]), item("tool", "done", call_id="c3")]
    history = [item("user", "one"), *half, item("assistant", "Done.")]
    assert short(build_context(None, history, "two")) == [
        ("user", "one"),
        ("assistant", "Just a moment.\n\nDone."),
        ("user", "two"),
    ]


@pytest.mark.parametrize(
    ("earlier", "sent_before"),
    [
        ([item("user", "one")], "one"),
        ([item("user", "one"), item("assistant", "1"), item("user", "two")], "two"),
        ([], NOT_SHOWN),  # the window begins with the calls
        ([item("tool", "cut off", call_id="c0")], NOT_SHOWN),
    ],
)
def test_calls_that_a_message_has_declined_are_sent_with_that_result(earlier: Any, sent_before: str) -> None:
    pending = item("assistant", "May I?", [CALL, OTHER_CALL])
    declined = [{"role": "tool", "content": NOT_APPROVED, "tool_call_id": call_id} for call_id in ("c1", "c2")]
    context = as_sent(build_context(None, [*earlier, pending], "last"))
    assert violation(context) is None
    place = [message["role"] for message in context].index("tool")
    assert context[place - 2] == {"role": "user", "content": sent_before}
    assert context[place - 1] == {"role": "assistant", "content": "May I?", "tool_calls": [CALL, OTHER_CALL]}
    assert context[place : place + 2] == declined
    assert context[place + 2] == {"role": "assistant", "content": NO_ANSWER}
    continued = build_context(None, [*earlier, pending, item("user", "three"), item("assistant", "3")], "last")
    assert violation(as_sent(continued)) is None
    if earlier[:1] == [item("user", "one")]:
        assert NOT_APPROVED in [message.content for message in continued]


@pytest.mark.parametrize("cut", range(8))
def test_no_window_declines_calls_that_have_results(cut: int) -> None:
    history = [
        item("user", "one"),
        item("assistant", None, [CALL]),
        item("tool", "done", call_id="c1"),
        item("assistant", None, [OTHER_CALL]),
        item("tool", "done too", call_id="c2"),
        item("assistant", "1"),
        item("user", "two"),
        item("assistant", "2"),
    ]
    context = build_context(None, history[cut:], "three")
    assert violation(as_sent(context)) is None
    assert NOT_APPROVED not in [message.content for message in context]


def test_newest_result_of_a_call_counts() -> None:
    history = [
        item("user", "one"),
        item("assistant", None, [CALL]),
        item("tool", "unknown", call_id="c1"),
        item("assistant", "The first attempt"),
        item("tool", "done", call_id="c1"),
        item("assistant", "1"),
    ]
    context = as_sent(build_context(None, history, "two"))
    assert violation(context) is None
    assert [message["content"] for message in context if message["role"] == "tool"] == ["done"]


def test_window_without_a_message_of_the_user_keeps_the_last_calls() -> None:
    history = [
        item("tool", "cut off", call_id="c0"),
        item("assistant", None, [CALL]),
        item("tool", "done", call_id="c1"),
        item("assistant", "1"),
    ]
    assert as_sent(build_context(None, history, "two")) == [
        {"role": "user", "content": NOT_SHOWN},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "done", "tool_call_id": "c1"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]


@pytest.mark.parametrize(
    ("history", "roles"),
    [
        ([item("user", "one"), item("assistant", "Just a moment.", [CALL, OTHER_CALL])], ["user", "assistant"]),
        ([item("assistant", None, [CALL, OTHER_CALL])], ["user", "assistant"]),
        ([], ["user", "assistant"]),
        (None, ["user", "assistant"]),
        (
            [
                item("user", "one"),
                item("assistant", None, [{**CALL, "id": "c0"}]),
                item("tool", "done", call_id="c0"),
                item("assistant", None, [CALL, OTHER_CALL]),
            ],
            ["user", "assistant", "tool", "assistant"],
        ),
        ([item("user", "one"), item("assistant", "1"), item("assistant", None, [CALL, OTHER_CALL])], None),
    ],
)
def test_context_of_pending_calls_ends_with_them(history: Any, roles: Any) -> None:
    pending = item("assistant", "Just a moment.", [CALL, OTHER_CALL])
    context = build_pending_context(["Be brief."], history, pending)
    assert context[-1].tool_calls == [CALL, OTHER_CALL]
    assert context[0].role == "system"
    assert roles is None or [message.role for message in context[1:]] == roles
    results = [ChatMessage("tool", "done", tool_call_id=call["id"]) for call in (CALL, OTHER_CALL)]
    assert violation(as_sent([*context, *results])) is None
