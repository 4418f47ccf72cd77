"""The built-in tools for the to-do items of the caller; /api/tasks does the same."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from marshmallow import ValidationError

from app.encoding import encode_json
from app.fields import Schema
from app.models import Todo
from app.services import todos
from app.services.todos import TodoLimits
from app.text import clean_text
from app.tools.json_schema import closed_object, input_schema, output_schema
from app.tools.todo_schemas import TodoCreation, TodoListing, TodoReference, TodoSchema, TodoUpdate
from app.tools.tool import Tool, ToolContext, ToolError, ToolResult

_SHOWN_CHARS = 20_000  # that the descriptions in a list share, so that a list is never much longer than one task
_MIN_SHOWN_CHARS = 200  # of each

_ITEM = output_schema(TodoSchema)
_ONE = closed_object({"task": _ITEM})
_PAGE = closed_object(
    {"tasks": {"type": "array", "items": _ITEM}, "next_after": {"type": ["string", "null"], "format": "uuid"}}
)
_DELETED = closed_object({"deleted": {"type": "boolean"}, "id": {"type": "string", "format": "uuid"}})

Arguments = dict[str, Any]


class TodoTools:
    """The source of these tools. `limits` is what a user may store."""

    def __init__(self, limits: TodoLimits) -> None:
        self._limits = limits
        self._tools = (
            _tool(
                "add_task",
                "Add a task",
                "Add a task to the user's to-do list. Call it once for each task. Returns the task with its id.",
                TodoCreation,
                self._add,
                keyed=True,
            ),
            _tool(
                "list_tasks",
                "List tasks",
                "List or search the user's to-do list, newest task first. Call it to see what is open, and to find the "
                "id of a task. Long descriptions are cut.",
                TodoListing,
                _list,
                result=_PAGE,
                read_only=True,
            ),
            _tool(
                "update_task",
                "Change a task",
                "Change the title or the description of a task of the user's to-do list, or open a completed task "
                "again. Omit what should stay; an empty description removes it.",
                TodoUpdate,
                _update,
                destructive=True,
            ),
            _tool(
                "complete_task",
                "Complete a task",
                "Mark a task of the user's to-do list as completed.",
                TodoReference,
                _complete,
            ),
            _tool(
                "delete_task",
                "Delete a task",
                "Delete a task from the user's to-do list for good. To mark it as done, use complete_task instead.",
                TodoReference,
                _delete,
                result=_DELETED,
                destructive=True,
            ),
        )

    def tools(self, user_id: UUID, project_id: UUID | None) -> Sequence[Tool]:
        """Return the tools, the same ones for all users."""
        return self._tools

    def _add(self, context: ToolContext, arguments: Arguments) -> ToolResult:
        return _one(todos.create(context.user_id, call_key=context.call_key, limits=self._limits, **arguments))


def _list(context: ToolContext, arguments: Arguments) -> ToolResult:
    limit = arguments["limit"]
    found = todos.page(context.user_id, **arguments)
    items = [_view(todo) for todo in found[:limit]]
    shown = max(_MIN_SHOWN_CHARS, _SHOWN_CHARS // max(1, len(items)))
    for item in items:
        if len(item["description"] or "") > shown:
            item["description"] = item["description"][:shown] + "…"
    return _result({"tasks": items, "next_after": items[-1]["id"] if len(found) > limit else None})


def _update(context: ToolContext, arguments: Arguments) -> ToolResult:
    if arguments.get("description") == "":
        arguments["description"] = None
    return _one(todos.change(context.user_id, **arguments))


def _complete(context: ToolContext, arguments: Arguments) -> ToolResult:
    return _one(todos.complete(context.user_id, **arguments))


def _delete(context: ToolContext, arguments: Arguments) -> ToolResult:
    todos.delete(context.user_id, **arguments)
    return _result({"deleted": True, "id": str(arguments["todo_id"])})


def _tool(
    name: str,
    title: str,
    description: str,
    schema: type[Schema],
    run: Callable[[ToolContext, Arguments], ToolResult],
    *,
    result: Mapping[str, Any] = _ONE,
    keyed: bool = False,
    read_only: bool = False,
    destructive: bool = False,
) -> Tool:
    """Return a tool whose arguments `schema` validates before `run` gets them, with the JSON Schema of its `result`."""

    def validated(context: ToolContext, arguments: Mapping[str, Any]) -> ToolResult:
        return run(context, _loaded(schema, arguments))

    return Tool(
        name=name,
        title=title,
        description=description,
        input_schema=input_schema(schema),
        output_schema=result,
        run=validated,
        repeatable=True,
        keyed=keyed,
        read_only=read_only,
        destructive=destructive,
    )


def _loaded(schema: type[Schema], arguments: Mapping[str, Any]) -> Arguments:
    """Return the validated arguments. Models send null for what they do not mean to set, so it counts as omitted."""
    sent = {
        name: clean_text(value) if isinstance(value, str) else value
        for name, value in arguments.items()
        if value is not None
    }
    try:
        loaded: Arguments = schema().load(sent)
    except ValidationError as error:
        problems = error.messages if isinstance(error.messages, dict) else {"arguments": error.messages}
        sentences = [f"{name}: {' '.join(map(str, messages))}" for name, messages in problems.items()]
        raise ToolError(" ".join(["The arguments are invalid.", *sentences])) from None
    return loaded


def _view(todo: Todo) -> dict[str, Any]:
    view: dict[str, Any] = TodoSchema().dump(todo)
    return view


def _one(todo: Todo) -> ToolResult:
    return _result({"task": _view(todo)})


def _result(data: dict[str, Any]) -> ToolResult:
    """Return `data` as the result, and as JSON for the model."""
    return ToolResult(encode_json(data).decode(), data=data)
