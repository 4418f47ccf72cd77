"""Tools over MCP."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.config import Settings
from app.errors import InvalidInput
from app.factory import create_app
from app.metrics.tools import BUILTIN_TOOLS
from app.services.search_index import index_conversation
from app.tools.registry import ToolRegistry
from ops.mcp.servers import add_server
from ops.runs.actors import Actor
from tests.api.conversation_files import StoreConversation
from tests.api.keys import make_key
from tests.api.mcp.messages import STATELESS, McpCaller, error_of
from tests.factories import LoggedInUser
from tests.tools.fixed import FixedTools, make_tool

INVALID_PARAMS = -32602
BUILTIN = ["add_task", "list_tasks", "update_task", "complete_task", "delete_task"]


@pytest.fixture
def make_searchable(flask_app: Flask, store_conversation: StoreConversation, user: LoggedInUser) -> Callable[..., str]:
    """Return a function that stores and indexes a conversation with one message, and returns its URI."""

    def make(content: str, account: LoggedInUser = user, **columns: Any) -> str:
        conversation = store_conversation([{"role": "user", "content": content}], account, **columns)
        with flask_app.app_context():
            assert index_conversation(account.id, conversation)
        return f"parley://conversations/{conversation}"

    return make


def open_tasks(caller: McpCaller) -> list[str]:
    """Return the titles of the caller's tasks, as REST has them."""
    response = caller.client.get("/api/tasks", headers=caller.headers)
    return [task["title"] for task in response.json["items"]]


def test_list_has_builtin_tools_and_search_in_fixed_order(either: McpCaller) -> None:
    lists = [either.result("tools/list")["tools"] for _ in range(2)]
    assert lists[0] == lists[1]
    assert [tool["name"] for tool in lists[0]] == [*BUILTIN, "search_conversations"]
    assert all(tool["title"] and tool["description"] and tool["inputSchema"]["type"] == "object" for tool in lists[0])


def test_metrics_of_all_own_tools_exist_from_the_start(caller: McpCaller) -> None:
    assert sorted(tool["name"] for tool in caller.result("tools/list")["tools"]) == sorted(BUILTIN_TOOLS)


def test_annotations_follow_from_tools(caller: McpCaller) -> None:
    annotations = {tool["name"]: tool["annotations"] for tool in caller.result("tools/list")["tools"]}
    hints = {
        name: (each["readOnlyHint"], each["destructiveHint"], each["idempotentHint"], each["openWorldHint"])
        for name, each in annotations.items()
    }
    assert hints["search_conversations"] == hints["list_tasks"] == (True, False, True, False)
    assert hints["add_task"] == (False, False, False, False)
    assert hints["delete_task"][:2] == (False, True)


def test_structured_result_of_each_tool_fits_its_output_schema(
    caller: McpCaller, make_searchable: Callable[..., str]
) -> None:
    make_searchable("quokka")
    schemas = {tool["name"]: tool["outputSchema"] for tool in caller.result("tools/list")["tools"]}
    assert schemas.keys() == {*BUILTIN, "search_conversations"}

    def fits(name: str, **arguments: Any) -> dict[str, Any]:
        structured = dict(caller.call(name, **arguments)["structuredContent"])
        jsonschema.Draft202012Validator.check_schema(schemas[name])
        jsonschema.Draft202012Validator(
            schemas[name], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        ).validate(structured)
        return structured

    ids = [fits("add_task", title=f"Task {number}")["task"]["id"] for number in range(2)]
    assert fits("list_tasks", limit=1)["next_after"] == ids[1]
    fits("update_task", task_id=ids[0], description="Details")
    assert fits("complete_task", task_id=ids[0])["task"]["completed_at"]
    assert fits("list_tasks")["next_after"] is None
    fits("delete_task", task_id=ids[0])
    assert fits("search_conversations", query="quokka")["conversations"]
    assert fits("search_conversations", query="platypus") == {"conversations": [], "more": False}


def test_called_tool_changes_data_of_caller_only(either: McpCaller, other_user: LoggedInUser) -> None:
    result = either.call("add_task", title="Buy groceries")
    assert not result.get("isError", False)
    assert "Buy groceries" in result["content"][0]["text"]
    assert open_tasks(either) == ["Buy groceries"]
    assert open_tasks(McpCaller(either.client, other_user.headers)) == []


def test_two_equal_calls_are_two_calls(caller: McpCaller) -> None:
    for _ in range(2):
        caller.call("add_task", title="Twice")
    assert open_tasks(caller) == ["Twice", "Twice"]


def test_call_repeated_with_idempotency_key_adds_once(either: McpCaller) -> None:
    def add(title: str, key: str) -> None:
        call = {"name": "add_task", "arguments": {"title": title}}
        assert not either.send("tools/call", call, Idempotency_Key=key).json["result"].get("isError", False)

    for title, key in (("One", "a"), ("One", "a"), ("Two", "a"), ("One", "b")):
        add(title, key)
    assert sorted(open_tasks(either)) == ["One", "One", "Two"]
    invalid = either.send("tools/call", {"name": "add_task", "arguments": {"title": "x"}}, Idempotency_Key="")
    assert "Idempotency-Key" in error_of(invalid)[2]


def test_task_of_another_user_is_an_error_result_and_stays(caller: McpCaller, other_user: LoggedInUser) -> None:
    other = McpCaller(caller.client, other_user.headers)
    other.call("add_task", title="Not yours")
    task_id = caller.client.get("/api/tasks", headers=other_user.headers).json["items"][0]["id"]
    result = caller.call("delete_task", task_id=task_id)
    assert (result["isError"], "There is no such" in result["content"][0]["text"]) == (True, True)
    assert open_tasks(other) == ["Not yours"]
    assert not other.call("delete_task", task_id=task_id).get("isError", False)
    assert open_tasks(other) == []


@pytest.mark.parametrize(
    "arguments", [{}, {"title": ""}, {"title": 5}, {"title": "x" * 201}, {"title": "x", "user_id": "y"}, {"x": None}]
)
def test_arguments_that_do_not_fit_are_an_error_result(either: McpCaller, arguments: dict[str, Any]) -> None:
    result = either.result("tools/call", {"name": "add_task", "arguments": arguments})
    assert result["isError"] is True
    assert result["content"][0]["text"]
    assert open_tasks(either) == []


@pytest.mark.parametrize("name", ["no_such_tool", "", "ADD_TASK", "x" * 10_000])
def test_unknown_tool_is_error_of_protocol(either: McpCaller, name: str) -> None:
    status, code, message = error_of(either.send("tools/call", {"name": name, "arguments": {}}))
    assert (status, code) == (400 if either.version == STATELESS else 200, INVALID_PARAMS)
    assert "tools/list" in message
    assert len(message) < 300


def test_key_without_write_scope_reads_but_does_not_change(
    flask_app: Flask, client: FlaskClient, user: LoggedInUser
) -> None:
    caller = McpCaller(client, make_key(flask_app, user, ["read"]).headers)
    assert not caller.call("list_tasks").get("isError", False)
    status, _, message = error_of(caller.send("tools/call", {"name": "add_task", "arguments": {"title": "x"}}))
    assert (status, "`write`" in message) == (403, True)
    assert open_tasks(caller) == []
    writer = McpCaller(client, make_key(flask_app, user, ["read", "write"]).headers)
    assert not writer.call("add_task", title="x").get("isError", False)


def test_search_finds_own_conversations_with_uri_and_snippet(
    either: McpCaller, make_searchable: Callable[..., str], other_user: LoggedInUser
) -> None:
    uri = make_searchable("We saw a quokka on the island.", title="Island")
    make_searchable("Another quokka.", other_user)
    archived = make_searchable("An old quokka.", status="archived")
    result = either.call("search_conversations", query="quokka")
    found = {item["uri"]: item for item in result["structuredContent"]["conversations"]}
    assert set(found) == {uri, archived}
    assert (found[uri]["title"], found[uri]["position"]) == ("Island", 1)
    assert "quokka on the island" in found[uri]["snippet"]
    assert uri in result["content"][0]["text"]
    assert "quokka on the island" in either.result("resources/read", {"uri": uri})["contents"][0]["text"]


def test_search_respects_limit_and_reports_more(caller: McpCaller, make_searchable: Callable[..., str]) -> None:
    for number in range(3):
        make_searchable(f"wombat number {number}")
    found = caller.call("search_conversations", query="wombat", limit=2)["structuredContent"]
    assert (len(found["conversations"]), found["more"]) == (2, True)
    assert caller.call("search_conversations", query="platypus")["structuredContent"] == {
        "conversations": [],
        "more": False,
    }


@pytest.mark.parametrize(
    "arguments", [{}, {"query": ""}, {"query": "x" * 201}, {"query": "x", "limit": 0}, {"query": 1}]
)
def test_invalid_search_is_an_error_result(caller: McpCaller, arguments: dict[str, Any]) -> None:
    assert caller.result("tools/call", {"name": "search_conversations", "arguments": arguments})["isError"] is True


def test_tools_of_other_servers_are_not_passed_on(settings: Settings, user: LoggedInUser) -> None:
    flask_app = create_app(settings)
    process = flask_app.extensions["parley"]
    registry = ToolRegistry(
        [FixedTools(make_tool("weather_now", source="weather"))], settings.tools, flask_app.app_context
    )
    flask_app.extensions["parley"] = replace(process, tools=registry)
    assert [tool.name for tool in registry.tools_for(user.id)] == ["weather_now"]
    caller = McpCaller(flask_app.test_client(), user.headers)
    assert [tool["name"] for tool in caller.result("tools/list")["tools"]] == ["search_conversations"]
    assert (
        error_of(caller.send("tools/call", {"name": "weather_now", "arguments": {"query": "x"}}))[1] == INVALID_PARAMS
    )


def test_other_server_cannot_have_name_of_own_tools(flask_app: Flask) -> None:
    by = Actor(kind="command", name="tests")
    with flask_app.app_context(), pytest.raises(InvalidInput, match="Parley's own tools"):
        add_server(name="builtin", url="https://weather.example.org/mcp", headers={}, by=by)
