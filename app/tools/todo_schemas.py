"""To-do items in requests, responses and tool calls: /api/tasks and the tools share these declarations."""

from typing import ClassVar

from marshmallow import fields, validate

from app.bounds import SEARCH_LIMIT
from app.fields import Examples, Flag, PlainText, Schema, WholeNumber
from app.services.todos import DESCRIPTION_LIMIT, TITLE_LIMIT

MAX_LISTED = 100
DEFAULT_LISTED = 20
_TITLE = {"description": "What is to be done, in a few words."}
_ID = {"description": "Id of the task, as in the result of list_tasks or add_task."}


class TodoCreation(Schema):
    EXAMPLES: ClassVar[Examples] = [{"title": "Buy groceries", "description": "Milk, bread and apples."}]

    title = PlainText(max_length=TITLE_LIMIT, required=True, metadata=_TITLE)
    description = PlainText(
        max_length=DESCRIPTION_LIMIT, blank=True, allow_none=True, metadata={"description": "Details."}
    )


class TodoChange(Schema):
    """The fields to set; omitted fields are not changed."""

    EXAMPLES: ClassVar[Examples] = [{"title": "Buy groceries and flowers", "completed": False}]

    title = PlainText(max_length=TITLE_LIMIT, metadata=_TITLE)
    description = PlainText(
        max_length=DESCRIPTION_LIMIT, blank=True, allow_none=True, metadata={"description": "Details."}
    )
    completed = Flag(metadata={"description": "True completes the task, false opens it again."})


class TodoFilter(Schema):
    completed = fields.Boolean(
        truthy={True, "true"},
        falsy={False, "false"},
        load_default=None,
        metadata={"description": "Only completed tasks (true), or only open ones (false); by default both."},
    )
    q = PlainText(
        max_length=SEARCH_LIMIT,
        load_default=None,
        metadata={
            "description": 'Words in title or description: all of them; "a phrase"; -excluded; or. The last word '
            "matches as a prefix."
        },
    )


class TodoSchema(Schema):
    id = fields.UUID()
    title = fields.String(metadata=_TITLE)
    description = fields.String(allow_none=True, metadata={"description": "Details; null without any."})
    completed = fields.Boolean(metadata={"description": "Whether it is done."})
    completed_at = fields.AwareDateTime(
        allow_none=True, metadata={"description": "When it was completed; null while it is open."}
    )
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class TodoListing(TodoFilter):
    """Arguments of the tool that lists; `after` continues a list."""

    limit = WholeNumber(
        load_default=DEFAULT_LISTED,
        validate=validate.Range(1, MAX_LISTED),
        metadata={"description": f"Largest number of tasks in the result; by default {DEFAULT_LISTED}."},
    )
    after = fields.UUID(
        load_default=None,
        metadata={"description": "`next_after` of the previous result, to continue the list with the same filters."},
    )


class TodoReference(Schema):
    """Arguments of a tool that takes one item."""

    todo_id = fields.UUID(data_key="task_id", required=True, metadata=_ID)


class TodoUpdate(TodoChange):
    """Arguments of the tool that changes an item."""

    todo_id = fields.UUID(data_key="task_id", required=True, metadata=_ID)
