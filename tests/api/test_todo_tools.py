"""The built-in tools for the to-do list, called through the registry as turns and MCP clients call them."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.container import services
from app.fields import Schema
from app.ids import new_id
from app.outbound.cancellation import CancelToken
from app.tools.json_schema import input_schema
from app.tools.registry import ToolRegistry
from app.tools.todo_schemas import TodoChange, TodoCreation, TodoFilter
from app.tools.tool import BUILTIN, Tool, ToolContext, ToolResult
from tests.api.rows import owned_rows
from tests.factories import LoggedInUser
from tests.waiting import wait_until

Call = Callable[..., ToolResult]
NAMES = ("add_task", "list_tasks", "update_task", "complete_task", "delete_task")
# Keywords that all providers accept; some refuse lists of types, `format` and `pattern`.
KEYWORDS = {"type", "description", "minimum", "maximum", "minLength", "maxLength"}
MISSING = "There is no such task."


@pytest.fixture
def registry(chat_app: Flask) -> ToolRegistry:
    with chat_app.app_context():
        return services().tools


@pytest.fixture
def call(registry: ToolRegistry, user: LoggedInUser) -> Call:
    """Return a function that calls a tool as `user`, or as `account`."""

    def call(name: str, account: LoggedInUser = user, call_key: str | None = None, **arguments: Any) -> ToolResult:
        found = registry.find(name, account.id)
        assert found is not None
        return registry.call(found, ToolContext(account.id, call_key=call_key or str(new_id())), arguments)

    return call


def builtin(registry: ToolRegistry, user: LoggedInUser) -> dict[str, Tool]:
    return {tool.name: tool for tool in registry.tools_for(user.id) if tool.source == BUILTIN and "task" in tool.name}


def data_of(result: ToolResult) -> Any:
    """Return the data of a successful result, which its content states too."""
    assert not result.is_error, result.content
    assert json.loads(result.content) == result.data
    return result.data


def refusal(result: ToolResult) -> str:
    assert result.is_error
    assert result.data is None
    return result.content


def test_tools_are_offered_to_every_user(registry: ToolRegistry, user: LoggedInUser) -> None:
    tools = builtin(registry, user)
    assert tuple(tools) == NAMES
    assert [name for name, tool in tools.items() if tool.read_only] == ["list_tasks"]
    assert [name for name, tool in tools.items() if tool.destructive] == ["update_task", "delete_task"]
    assert [name for name, tool in tools.items() if tool.keyed] == ["add_task"]
    assert all(tool.repeatable and not tool.needs_approval for tool in tools.values())
    assert all(tool.title and tool.description for tool in tools.values())


def test_schemas_are_closed_objects_of_plain_keywords(registry: ToolRegistry, user: LoggedInUser) -> None:
    for name, tool in builtin(registry, user).items():
        schema = tool.input_schema
        assert set(schema) == {"type", "properties", "required", "additionalProperties"}, name
        assert (schema["type"], schema["additionalProperties"]) == ("object", False), name
        assert set(schema["required"]) <= set(schema["properties"]), name
        assert "user_id" not in schema["properties"], name
        for field in schema["properties"].values():
            assert set(field) <= KEYWORDS, name
            assert isinstance(field["type"], str), name
            assert field["description"], name


@pytest.mark.parametrize(("name", "schema"), [("add_task", TodoCreation), ("update_task", TodoChange)])
def test_tool_has_the_arguments_of_the_request(
    registry: ToolRegistry, user: LoggedInUser, name: str, schema: type[Schema]
) -> None:
    properties = dict(builtin(registry, user)[name].input_schema["properties"])
    properties.pop("task_id", None)
    assert properties == input_schema(schema)["properties"]


def test_listing_has_the_filters_of_the_request(registry: ToolRegistry, user: LoggedInUser) -> None:
    properties = builtin(registry, user)["list_tasks"].input_schema["properties"]
    assert properties.items() >= input_schema(TodoFilter)["properties"].items()
    assert set(properties) == {"completed", "q", "limit", "after"}


def test_tools_change_the_same_tasks_as_requests(call: Call, client: FlaskClient, user: LoggedInUser) -> None:
    added = data_of(call("add_task", title="Buy groceries", description="Milk"))["task"]
    place = f"/api/tasks/{added['id']}"
    assert client.get(place, headers=user.headers).json == added
    updated = data_of(call("update_task", task_id=added["id"], title="Buy flowers", description=""))["task"]
    assert (updated["title"], updated["description"]) == ("Buy flowers", None)
    assert client.get(place, headers=user.headers).json == updated
    completed = data_of(call("complete_task", task_id=added["id"]))["task"]
    assert completed["completed"]
    assert client.get(place, headers=user.headers).json == completed
    assert data_of(call("list_tasks", completed=True)) == {"tasks": [completed], "next_after": None}
    assert data_of(call("list_tasks", completed=False))["tasks"] == []
    assert data_of(call("delete_task", task_id=added["id"])) == {"deleted": True, "id": added["id"]}
    assert client.get(place, headers=user.headers).status_code == 404
    assert refusal(call("delete_task", task_id=added["id"])) == MISSING


@pytest.mark.parametrize("name", ["update_task", "complete_task", "delete_task"])
def test_id_of_another_user_is_not_found(
    call: Call, engine: Engine, user: LoggedInUser, other_user: LoggedInUser, name: str
) -> None:
    secret = data_of(call("add_task", title="Secret", account=other_user))["task"]
    before = owned_rows(engine, other_user)
    arguments = {"title": "mine"} if name == "update_task" else {}
    assert refusal(call(name, task_id=secret["id"], **arguments)) == MISSING
    assert refusal(call(name, task_id=str(new_id()), **arguments)) == MISSING
    assert owned_rows(engine, other_user) == before
    assert data_of(call("list_tasks", q="secret"))["tasks"] == []
    assert data_of(call("list_tasks", after=secret["id"]))["tasks"] == []


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("add_task", {}, "title"),
        ("add_task", {"title": ""}, "title"),
        ("add_task", {"title": " \u200b"}, "title: May not be blank."),
        ("add_task", {"title": "x" * 201}, "title"),
        ("add_task", {"title": 7}, "title"),
        ("add_task", {"title": None}, "title"),
        ("add_task", {"title": "x", "description": "x" * 10_001}, "description"),
        ("add_task", {"title": "x", "user_id": "x"}, "user_id"),
        ("add_task", {"title": "x", "completed": True}, "completed"),
        ("list_tasks", {"limit": 0}, "limit"),
        ("list_tasks", {"limit": 101}, "limit"),
        ("list_tasks", {"limit": "many"}, "limit"),
        ("list_tasks", {"completed": "yes"}, "completed"),
        ("list_tasks", {"after": "x"}, "after"),
        ("update_task", {"title": "x"}, "task_id"),
        ("update_task", {"task_id": "groceries", "title": "x"}, "task_id: Not a valid UUID."),
        ("complete_task", {"task_id": 1}, "task_id"),
        ("delete_task", {"task_id": ["x"]}, "task_id"),
        ("delete_task", {"id": "x"}, "task_id"),
    ],
)
def test_invalid_arguments_are_named_and_change_nothing(
    call: Call, engine: Engine, user: LoggedInUser, name: str, arguments: dict[str, Any], words: str
) -> None:
    call("add_task", title="Stays")
    before = owned_rows(engine, user)
    assert words in refusal(call(name, **arguments))
    assert owned_rows(engine, user) == before


def test_null_is_an_omitted_argument(call: Call) -> None:
    added = data_of(call("add_task", title="Read", description=None))["task"]
    assert added["description"] is None
    described = data_of(call("update_task", task_id=added["id"], description="A book"))["task"]
    changed = data_of(call("update_task", task_id=added["id"], title=None, description=None, completed=None))["task"]
    assert (changed["title"], changed["description"], changed["completed"]) == ("Read", "A book", False)
    assert described["description"] == "A book"
    assert len(data_of(call("list_tasks", completed=None, q=None, limit=None, after=None))["tasks"]) == 1


def test_unstorable_characters_are_replaced(call: Call) -> None:
    added = data_of(call("add_task", title="a\x00b\ud800", description="\x00"))["task"]
    assert (added["title"], added["description"]) == ("a\ufffdb\ufffd", "\ufffd")


def test_repeated_call_adds_one_task(call: Call, engine: Engine, user: LoggedInUser, other_user: LoggedInUser) -> None:
    def add(number: int) -> str:
        return str(data_of(call("add_task", title=f"Attempt {number}", call_key="same"))["task"]["id"])

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(add, range(16)))) == 1
    assert len(owned_rows(engine, user)["tasks"]) == 1
    assert data_of(call("add_task", title="Another", call_key="other"))
    assert data_of(call("add_task", title="Mine", call_key="same", account=other_user))["task"]["title"] == "Mine"


def test_list_continues_after_the_last_task(call: Call) -> None:
    for number in range(5):
        call("add_task", title=f"task {number}")
    first = data_of(call("list_tasks", limit=3, q="task"))
    rest = data_of(call("list_tasks", limit=3, q="task", after=first["next_after"]))
    titles = [item["title"] for item in (*first["tasks"], *rest["tasks"])]
    assert titles == [f"task {number}" for number in range(4, -1, -1)]
    assert rest["next_after"] is None


def test_long_descriptions_share_the_space_of_a_list(call: Call) -> None:
    long = "x" * 10_000
    for number in range(4):
        call("add_task", title=str(number), description=long)
    assert data_of(call("list_tasks", limit=1))["tasks"][0]["description"] == long
    shown = [item["description"] for item in data_of(call("list_tasks"))["tasks"]]
    assert shown == ["x" * 5_000 + "…"] * 4


@contextmanager
def locked_tasks(engine: Engine, user: LoggedInUser) -> Iterator[None]:
    """Hold the rows of the user's tasks, as a long transaction does."""
    with engine.connect() as other, other.begin():
        other.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # a busy machine takes a while
        other.execute(text("SELECT FROM tasks WHERE user_id = :u FOR UPDATE"), {"u": user.id})
        yield


def test_locked_task_is_a_result_that_says_so(
    make_chat_app: Callable[..., Flask], engine: Engine, user: LoggedInUser, call: Call
) -> None:
    task_id = data_of(call("add_task", title="x"))["task"]["id"]
    impatient = make_chat_app(database={"lock_timeout_ms": 100})
    with impatient.app_context():
        registry = services().tools
    tool = registry.find("complete_task", user.id)
    assert tool is not None
    with locked_tasks(engine, user):
        outcome = registry.call_outcome(tool, ToolContext(user.id, call_key="k"), {"task_id": task_id})
    assert "task is locked by another operation, so nothing was saved" in refusal(outcome.result)
    assert not outcome.uncertain
    assert data_of(call("complete_task", task_id=task_id))["task"]["completed"]


@pytest.mark.parametrize(
    ("name", "more"), [("complete_task", {}), ("update_task", {"title": "y"}), ("delete_task", {})]
)
def test_cancelled_call_that_waits_for_a_row_ends_and_changes_nothing(
    registry: ToolRegistry, engine: Engine, user: LoggedInUser, call: Call, name: str, more: dict[str, str]
) -> None:
    task = data_of(call("add_task", title="x"))["task"]
    tool, token = registry.find(name, user.id), CancelToken()
    assert tool is not None
    context = ToolContext(user.id, call_key="k", cancel_token=token)
    with locked_tasks(engine, user), ThreadPoolExecutor() as pool:
        running = pool.submit(registry.call_outcome, tool, context, {"task_id": task["id"], **more})
        wait_until(lambda: waits_for_lock(engine), "the call does not wait for the row")
        token.cancel()
        outcome = running.result(timeout=60)
    assert "it changed nothing" in refusal(outcome.result)
    assert not outcome.uncertain
    assert data_of(call("list_tasks"))["tasks"] == [task]


def waits_for_lock(engine: Engine) -> bool:
    query = """
SELECT EXISTS (SELECT FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND query LIKE '%tasks.%' AND datname = current_database())"""
    with engine.connect() as connection:
        return bool(connection.execute(text(query)).scalar_one())


def test_limits_of_the_user_hold(make_chat_app: Callable[..., Flask], engine: Engine, user: LoggedInUser) -> None:
    limited = make_chat_app(chat={"user_max_todos": 1})
    with limited.app_context():
        registry = services().tools
    tool = registry.find("add_task", user.id)
    assert tool is not None
    results = [
        registry.call(tool, ToolContext(user.id, call_key=str(new_id())), {"title": "x"}).is_error for _ in range(2)
    ]
    assert results == [False, True]
    assert len(owned_rows(engine, user)["tasks"]) == 1
