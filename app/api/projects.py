"""Projects: chatbots with their own prompts, provider and model."""

from typing import Any
from uuid import UUID

from flask import url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.history_bound import check_history
from app.api.schemas.messages import PROJECT_MESSAGES, ProjectMessagePage, ProjectMessageQuery
from app.api.schemas.projects import (
    PROJECTS,
    ProjectChange,
    ProjectCreation,
    ProjectPage,
    ProjectQuery,
    ProjectSchema,
)
from app.container import services
from app.errors import ArchiveDamaged, StorageLimitReached, UserHeld
from app.models import Project
from app.services import project_messages, projects
from app.services.projects import ProviderRules

blueprint = Blueprint(
    "projects",
    __name__,
    url_prefix="/api/projects",
    access=Access.USER,
    description="Chatbots with their own prompts, provider and model",
)


@blueprint.route("")
class Projects(MethodView):
    @blueprint.arguments(ProjectQuery, location="query")
    @blueprint.response(200, ProjectPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List projects, newest first."""
        return PROJECTS.envelope(projects.page(caller().user_id, **query), query["limit"])

    @blueprint.arguments(ProjectCreation)
    @blueprint.creates(ProjectSchema)
    @blueprint.raises(StorageLimitReached)
    def post(self, body: dict[str, Any]) -> tuple[Project, dict[str, str]]:
        """Create a project."""
        check_history(body.get("settings", {}).get("history"), "settings.history")
        created = projects.create(
            caller().user_id,
            providers=_rules(),
            max_bytes=services().settings.chat.user_max_bytes,
            **body,
        )
        return created, {"Location": url_for(".OneProject", project_id=created.id)}


@blueprint.route("/<uuid:project_id>")
class OneProject(MethodView):
    @blueprint.response(200, ProjectSchema)
    def get(self, project_id: UUID) -> Project:
        """Get a project without its prompts."""
        return projects.get(caller().user_id, project_id)

    @blueprint.arguments(ProjectChange)
    @blueprint.response(200, ProjectSchema)
    def patch(self, body: dict[str, Any], project_id: UUID) -> Project:
        """Change a project."""
        check_history(body.get("settings", {}).get("history"), "settings.history")
        return projects.change(caller().user_id, project_id, providers=_rules(), **body)

    @blueprint.response(204)
    @blueprint.raises(UserHeld)
    def delete(self, project_id: UUID) -> None:
        """Delete a project, its prompts and its files; its conversations are kept."""
        projects.delete(caller().user_id, project_id)


@blueprint.route("/<uuid:project_id>/messages")
@blueprint.arguments(ProjectMessageQuery, location="query")
@blueprint.response(200, ProjectMessagePage)
@blueprint.raises(ArchiveDamaged)
def messages_of_project(query: dict[str, Any], project_id: UUID) -> dict[str, Any]:
    """List the messages of a project's conversations, archived ones included, by conversation in order of creation."""
    rows = project_messages.page(caller().user_id, project_id, **query)
    return PROJECT_MESSAGES.envelope(rows, query["limit"])


def _rules() -> ProviderRules:
    """Return what the operator allows. A read within a request's transaction would take a second connection."""
    allowed = services().settings.files.providers
    return ProviderRules(services().providers.names, allowed, services().choices.last().name)
