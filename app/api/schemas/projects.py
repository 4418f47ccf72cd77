from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Number, PlainText, Schema, WholeNumber

PROJECTS = Pages("projects.1", lambda item: (item.id,), IDENTIFIER)


class ProjectSettings(Schema):
    """How the project's turns are answered: numbers only. Addresses and keys are the operator's to choose."""

    temperature = Number(validate=validate.Range(0, 2))
    max_output_tokens = WholeNumber(validate=validate.Range(1, 1_000_000))


class ProjectChange(Schema):
    """What may be set; whatever is left out stays."""

    EXAMPLES: ClassVar[Examples] = [{"description": "Answers about heating.", "settings": {"temperature": 0.2}}]

    name = PlainText(longest=100)
    description = PlainText(longest=2000, blank=True, allow_none=True)
    provider = PlainText(longest=20, allow_none=True, metadata={"description": "One that this server has."})
    model = PlainText(longest=200, allow_none=True)
    settings = fields.Nested(ProjectSettings, metadata={"description": "Replaced whole."})


class ProjectCreation(ProjectChange):
    EXAMPLES: ClassVar[Examples] = [{"name": "Heating advice", "settings": {"temperature": 0.2}}]

    name = PlainText(longest=100, required=True)


class ProjectSchema(Schema):
    id = fields.UUID()
    name = fields.String()
    description = fields.String(allow_none=True)
    provider = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    settings = fields.Nested(ProjectSettings)
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class ProjectQuery(PageQuery):
    after = Cursor(PROJECTS)


ProjectPage = page_of(ProjectSchema)
