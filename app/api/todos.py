"""The to-do items of a user, in public called tasks; the tools of chats change the same ones."""

from typing import Any
from uuid import UUID

from flask import url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.pagination import Pages
from app.api.schemas.todos import TodoPage, TodoQuery
from app.container import services
from app.errors import Conflict, StorageLimitReached
from app.models import Todo
from app.services import todos
from app.services.todos import TodoLimits
from app.tools.todo_schemas import TodoChange, TodoCreation, TodoSchema

blueprint = Blueprint(
    "tasks",
    __name__,
    url_prefix="/api/tasks",
    access=Access.USER,
    description="The to-do list of the user, which the assistant's tools change too",
)


@blueprint.route("")
class Todos(MethodView):
    @blueprint.arguments(TodoQuery, location="query")
    @blueprint.response(200, TodoPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List or search tasks, newest first."""
        pages: Pages = query.pop("pages")
        return pages.envelope(todos.page(caller().user_id, **query), query["limit"])

    @blueprint.arguments(TodoCreation)
    @blueprint.creates(TodoSchema)
    @blueprint.raises(Conflict, StorageLimitReached)
    def post(self, body: dict[str, Any]) -> tuple[Todo, dict[str, str]]:
        """Create a task."""
        created = todos.create(caller().user_id, limits=TodoLimits.of(services().settings.chat), **body)
        return created, {"Location": url_for(".OneTodo", todo_id=created.id)}


@blueprint.route("/<uuid:todo_id>")
class OneTodo(MethodView):
    @blueprint.response(200, TodoSchema)
    def get(self, todo_id: UUID) -> Todo:
        """Get a task."""
        return todos.get(caller().user_id, todo_id)

    @blueprint.arguments(TodoChange)
    @blueprint.response(200, TodoSchema)
    def patch(self, body: dict[str, Any], todo_id: UUID) -> Todo:
        """Change a task, complete it, or open it again."""
        return todos.change(caller().user_id, todo_id, **body)

    @blueprint.response(204)
    def delete(self, todo_id: UUID) -> None:
        """Delete a task permanently."""
        todos.delete(caller().user_id, todo_id)


@blueprint.route("/<uuid:todo_id>/complete", methods=["POST"])
@blueprint.response(200, TodoSchema)
def complete(todo_id: UUID) -> Todo:
    """Complete a task; repeating it changes nothing."""
    return todos.complete(caller().user_id, todo_id)
