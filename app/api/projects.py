"""Projects: chatbots with prompts, a provider and a model of their own."""

from typing import Any
from uuid import UUID

from flask import url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.schemas.projects import (
    PROJECTS,
    ProjectChange,
    ProjectCreation,
    ProjectPage,
    ProjectQuery,
    ProjectSchema,
)
from app.models import Project
from app.services import projects

blueprint = Blueprint(
    "projects",
    __name__,
    url_prefix="/api/projects",
    access=Access.USER,
    description="Chatbots with prompts, a provider and a model of their own",
)


@blueprint.route("")
class Projects(MethodView):
    @blueprint.arguments(ProjectQuery, location="query")
    @blueprint.response(200, ProjectPage)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Your projects, the newest first"""
        return PROJECTS.envelope(projects.page(caller().user_id, **query), query["limit"])

    @blueprint.arguments(ProjectCreation)
    @blueprint.creates(ProjectSchema)
    def post(self, body: dict[str, Any]) -> tuple[Project, dict[str, str]]:
        """A new project"""
        created = projects.create(caller().user_id, **body)
        return created, {"Location": url_for(".OneProject", project_id=created.id)}


@blueprint.route("/<uuid:project_id>")
class OneProject(MethodView):
    @blueprint.response(200, ProjectSchema)
    def get(self, project_id: UUID) -> Project:
        """A project without its prompts"""
        return projects.get(caller().user_id, project_id)

    @blueprint.arguments(ProjectChange)
    @blueprint.response(200, ProjectSchema)
    def patch(self, body: dict[str, Any], project_id: UUID) -> Project:
        """Change a project"""
        return projects.change(caller().user_id, project_id, **body)

    @blueprint.response(204)
    def delete(self, project_id: UUID) -> None:
        """Delete a project and its prompts; its conversations stay"""
        projects.delete(caller().user_id, project_id)
