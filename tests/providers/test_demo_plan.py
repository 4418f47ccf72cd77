"""Plans of the demo provider for messages about the to-do list."""

import json
from typing import Any

import pytest

from app.providers.demo_plan import Call, next_step

TOOLS = ("add_task", "list_tasks", "update_task", "complete_task", "delete_task")
MILK = {"id": "1", "title": "Buy milk"}


def steps(text: str, *results: Any, tools: tuple[str, ...] = TOOLS) -> list[Call | str | None]:
    """Return the steps for a message: the one before each result, and the one after the last."""
    texts = [result if isinstance(result, str) else json.dumps(result) for result in results]
    return [next_step(text, texts[:count], tools) for count in range(len(texts) + 1)]


def test_task_is_added_then_open_ones_are_shown() -> None:
    groceries = {"id": "1", "title": "Buy groceries"}
    assert steps(
        "Add a task to buy groceries, then show me what is open",
        {"task": groceries},
        {"tasks": [groceries, MILK], "next_after": None},
    ) == [
        Call("add_task", {"title": "Buy groceries"}),
        Call("list_tasks", {"completed": False}),
        "I added “Buy groceries”. Your open tasks: “Buy groceries”, “Buy milk”.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Show me what is open",
        "what's open?",
        "What is on my to-do list?",
        "list my tasks",
        "Please show me all open tasks.",
        "which tasks are still open?",
        "what are my todos",
    ],
)
def test_open_tasks_are_listed(text: str) -> None:
    assert steps(text, {"tasks": []}) == [Call("list_tasks", {"completed": False}), "You have no open tasks."]


@pytest.mark.parametrize("text", ["show me my completed tasks", "What is done?", "list what is done"])
def test_completed_tasks_are_listed(text: str) -> None:
    assert steps(text, {"tasks": [MILK], "next_after": "1"}) == [
        Call("list_tasks", {"completed": True}),
        "Your completed tasks: “Buy milk”, and more.",
    ]


@pytest.mark.parametrize(
    ("text", "call", "answer"),
    [
        ("Complete the task “milk”", Call("complete_task", {"task_id": "1"}), "I completed “Buy milk”."),
        ("mark milk as done!", Call("complete_task", {"task_id": "1"}), "I completed “Buy milk”."),
        ("delete the task: milk", Call("delete_task", {"task_id": "1"}), "I deleted “Buy milk”."),
        (
            "rename the task milk to buy bread",
            Call("update_task", {"task_id": "1", "title": "Buy bread"}),
            "I renamed “Buy milk”.",
        ),
    ],
)
def test_task_is_found_by_its_words_and_changed(text: str, call: Call, answer: str) -> None:
    result = {"deleted": True, "id": "1"} if call.tool == "delete_task" else {"task": MILK}
    look_up = Call("list_tasks", {"q": "milk", "limit": 1})
    assert steps(text, {"tasks": [MILK]}, result) == [look_up, call, answer]
    assert steps(text, {"tasks": []}) == [look_up, "I found no task “milk”."]


@pytest.mark.parametrize(
    "result",
    ["There is no such task.", "", "[]", "{", '{"tasks": 1, "task": []}', '{"tasks": [1], "task": 7}', "null", "\x00"],
)
@pytest.mark.parametrize("text", ["add a task to sleep", "what is open?", "mark milk as done", "delete the task milk"])
def test_any_result_is_answered(text: str, result: str) -> None:
    answer = steps(text, result, result)[-1]
    assert isinstance(answer, str)
    assert answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello, then show me what is open",
        "what is a task?",
        "show me how to cook",
        "read about the open sea",
        "complete this sentence",
        "delete everything",
        "add salt to the soup",
        "x" * 10_000,
        "add a task to " + "as done " * 1_000 + " ",
        " " * 10_000,
        "show " + "list " * 2_000 + "x",
    ],
)
def test_other_messages_and_long_ones_end(text: str) -> None:
    step = next_step(text, [], TOOLS)
    assert step is None or text.startswith("add a task")


def test_unknown_part_ends_the_plan() -> None:
    text = "Add a task to sleep; then sing. Then show me what is open"
    assert steps(text, {"task": {"title": "Sleep"}}) == [Call("add_task", {"title": "Sleep"}), "I added “Sleep”."]


def test_missing_tool_ends_the_plan() -> None:
    text = "Add a task to sleep, then show me what is open"
    assert next_step(text, [], ["list_tasks"]) is None
    assert next_step(text, ['{"task": {"title": "Sleep"}}'], []) == "I added “Sleep”."


def test_long_title_is_cut() -> None:
    call = next_step("remind me to " + "sleep " * 100, [], TOOLS)
    assert isinstance(call, Call)
    assert len(call.arguments["title"]) == 200
