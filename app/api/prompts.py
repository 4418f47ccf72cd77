"""The system prompts of a project."""

from typing import Any
from uuid import UUID

from flask import url_for
from flask.views import MethodView

from app.api.access import Access, caller
from app.api.blueprint import Blueprint
from app.api.schemas.prompts import (
    PROMPTS,
    PromptChange,
    PromptCreation,
    PromptPage,
    PromptQuery,
    PromptSchema,
)
from app.container import services
from app.errors import Conflict, StorageLimitReached
from app.models import Prompt
from app.services import prompts

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
    def patch(self, body: dict[str, Any], project_id: UUID, prompt_id: UUID) -> Prompt:
        """Change a prompt."""
        return prompts.change(caller().user_id, project_id, prompt_id, **body)

    @blueprint.response(204)
    def delete(self, project_id: UUID, prompt_id: UUID) -> None:
        """Delete a prompt."""
        prompts.delete(caller().user_id, project_id, prompt_id)
