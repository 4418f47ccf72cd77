from typing import ClassVar

from marshmallow import fields

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Flag, PlainText, Schema
from app.api.schemas.turn_options import OPTIONS_EXAMPLE, TurnOptions

PROJECTS = Pages("projects.1", lambda item: (item.id,), IDENTIFIER)


class ProjectSettings(TurnOptions):
    """Parameters of the project's turns. URLs and keys of providers are the operator's settings."""


class ProjectChange(Schema):
    """The fields to set; omitted fields are not changed."""

    EXAMPLES: ClassVar[Examples] = [
        {"description": "Answers about heating.", "settings": {"temperature": 0.2, "tools": ["list_tasks"]}},
        {"settings": OPTIONS_EXAMPLE},
    ]

    name = PlainText(max_length=100, metadata={"description": "Name of the project."})
    description = PlainText(
        max_length=2000,
        blank=True,
        allow_none=True,
        metadata={"description": "Notes about the project; not sent to the provider."},
    )
    provider = PlainText(
        max_length=20,
        allow_none=True,
        metadata={"description": "Provider for the project's turns, one of `GET /api/models`; null for the default."},
    )
    model = PlainText(
        max_length=200,
        allow_none=True,
        metadata={"description": "Model for the project's turns; null for the provider's default."},
    )
    settings = fields.Nested(ProjectSettings, metadata={"description": "A change replaces all of it."})
    provider_files = Flag(
        metadata={
            "description": "Whether the project's files are copied to the Files API of its provider, if the operator"
            " allows that; false deletes the copies there."
        }
    )


class ProjectCreation(ProjectChange):
    EXAMPLES: ClassVar[Examples] = [
        {"name": "Heating advice", "settings": {"temperature": 0.2, "tools": ["list_tasks"]}},
        {"name": "Cities", "settings": OPTIONS_EXAMPLE},
    ]

    name = PlainText(max_length=100, required=True, metadata={"description": "Name of the project."})


class ProjectSchema(Schema):
    id = fields.UUID()
    name = fields.String(metadata={"description": "Name of the project."})
    description = fields.String(allow_none=True, metadata={"description": "Notes about the project."})
    provider = fields.String(
        allow_none=True, metadata={"description": "Provider for the project's turns; null for the default."}
    )
    model = fields.String(
        allow_none=True, metadata={"description": "Model for the project's turns; null for the provider's default."}
    )
    settings = fields.Nested(ProjectSettings, metadata={"description": "Parameters of the project's turns."})
    provider_files = fields.Boolean(
        metadata={"description": "Whether the project's files are copied to the Files API of its provider."}
    )
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class ProjectQuery(PageQuery):
    after = Cursor(PROJECTS)


ProjectPage = page_of(ProjectSchema)
