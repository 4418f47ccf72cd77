"""The system prompts of a project."""

from typing import Any
from uuid import UUID

from flask import url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.schemas.prompts import (
    PROMPT_VERSIONS,
    PROMPTS,
    PromptChange,
    PromptCreation,
    PromptPage,
    PromptQuery,
    PromptSchema,
    PromptVersionPage,
    PromptVersionQuery,
    PromptVersionSchema,
)
from app.bounds import INTEGER_MAX
from app.container import services
from app.errors import Conflict, StorageLimitReached
from app.models import Prompt
from app.services import prompt_versions, prompts
from app.services.prompt_versions import Version

blueprint = Blueprint(
    "prompts",
    __name__,
    url_prefix="/api/projects/<uuid:project_id>/prompts",
    access=Access.USER,
    description="The system prompts of a project, sent first in each of its turns",
)


@blueprint.route("")
class Prompts(MethodView):
    @blueprint.arguments(PromptQuery, location="query")
    @blueprint.response(200, PromptPage)
    def get(self, query: dict[str, Any], project_id: UUID) -> dict[str, Any]:
        """List the prompts of a project in the order in which they are sent."""
        return PROMPTS.envelope(prompts.page(caller().user_id, project_id, **query), query["limit"])

    @blueprint.arguments(PromptCreation)
    @blueprint.creates(PromptSchema)
    @blueprint.raises(Conflict, StorageLimitReached)
    def post(self, body: dict[str, Any], project_id: UUID) -> tuple[Prompt, dict[str, str]]:
        """Create a prompt, by default after the last one."""
        created = prompts.create(
            caller().user_id, project_id, max_bytes=services().settings.chat.user_max_bytes, **body
        )
        return created, {"Location": url_for(".OnePrompt", project_id=project_id, prompt_id=created.id)}


@blueprint.route("/<uuid:prompt_id>")
class OnePrompt(MethodView):
    @blueprint.response(200, PromptSchema)
    def get(self, project_id: UUID, prompt_id: UUID) -> Prompt:
        """Get a prompt."""
        return prompts.get(caller().user_id, project_id, prompt_id)

    @blueprint.arguments(PromptChange)
    @blueprint.response(200, PromptSchema)
    @blueprint.raises(StorageLimitReached)
    def patch(self, body: dict[str, Any], project_id: UUID, prompt_id: UUID) -> Prompt:
        """Change a prompt or its draft; a change of the content is a new version."""
        max_bytes = services().settings.chat.user_max_bytes
        return prompts.change(caller().user_id, project_id, prompt_id, max_bytes=max_bytes, **body)

    @blueprint.response(204)
    def delete(self, project_id: UUID, prompt_id: UUID) -> None:
        """Delete a prompt with its versions."""
        prompts.delete(caller().user_id, project_id, prompt_id)


@blueprint.route("/<uuid:prompt_id>/publish", methods=["POST"])
@blueprint.response(200, PromptSchema)
@blueprint.raises(Conflict)
def publish(project_id: UUID, prompt_id: UUID) -> Prompt:
    """Make the draft of a prompt its content, as a new version."""
    return prompt_versions.publish(caller().user_id, project_id, prompt_id)


@blueprint.route("/<uuid:prompt_id>/versions")
@blueprint.arguments(PromptVersionQuery, location="query")
@blueprint.response(200, PromptVersionPage)
def versions(query: dict[str, Any], project_id: UUID, prompt_id: UUID) -> dict[str, Any]:
    """List the versions of a prompt, newest first; the newest 50 are kept."""
    items = prompt_versions.page(caller().user_id, project_id, prompt_id, **query)
    return PROMPT_VERSIONS.envelope(items, query["limit"])


@blueprint.route(f"/<uuid:prompt_id>/versions/<int(max={INTEGER_MAX}):number>")
@blueprint.response(200, PromptVersionSchema)
def version(project_id: UUID, prompt_id: UUID, number: int) -> Version:
    """Get a version of a prompt with its content."""
    return prompt_versions.get(caller().user_id, project_id, prompt_id, number)


@blueprint.route(f"/<uuid:prompt_id>/versions/<int(max={INTEGER_MAX}):number>/restore", methods=["POST"])
@blueprint.response(200, PromptSchema)
@blueprint.raises(StorageLimitReached)
def restore(project_id: UUID, prompt_id: UUID, number: int) -> Prompt:
    """Make the content of an earlier version the content again, as a new version."""
    max_bytes = services().settings.chat.user_max_bytes
    return prompt_versions.restore(caller().user_id, project_id, prompt_id, number, max_bytes=max_bytes)
