from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, POSITION, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Flag, PlainText, Schema, WholeNumber
from app.services.prompts import LAST_POSITION

PROMPTS = Pages("prompts.1", lambda item: (item.position, item.id), POSITION, IDENTIFIER)


class PromptChange(Schema):
    """The fields to set; omitted fields are not changed."""

    EXAMPLES: ClassVar[Examples] = [{"enabled": False}]

    title = PlainText(max_length=100, metadata={"description": "Title, for people; not sent to the provider."})
    content = PlainText(max_length=50_000, metadata={"description": "Text that is sent to the provider."})
    position = WholeNumber(
        validate=validate.Range(0, LAST_POSITION),
        metadata={"description": "Prompts are sent in order of position; the default is after the last one."},
    )
    enabled = Flag(metadata={"description": "Whether the prompt is sent."})


class PromptCreation(PromptChange):
    EXAMPLES: ClassVar[Examples] = [{"title": "Tone", "content": "You answer in plain words, briefly.", "position": 0}]

    title = PlainText(
        max_length=100, required=True, metadata={"description": "Title, for people; not sent to the provider."}
    )
    content = PlainText(
        max_length=50_000, required=True, metadata={"description": "Text that is sent to the provider."}
    )


class PromptSchema(Schema):
    id = fields.UUID()
    project_id = fields.UUID(metadata={"description": "Project of the prompt."})
    title = fields.String(metadata={"description": "Title, for people."})
    content = fields.String(metadata={"description": "Text that is sent to the provider."})
    position = fields.Integer(metadata={"description": "Prompts are sent in order of position."})
    enabled = fields.Boolean(metadata={"description": "Whether the prompt is sent."})
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class PromptQuery(PageQuery):
    after = Cursor(PROMPTS)


PromptPage = page_of(PromptSchema)
