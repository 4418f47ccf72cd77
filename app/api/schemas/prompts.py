from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, POSITION, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Flag, PlainText, Schema, WholeNumber
from app.services.prompts import LAST_POSITION

PROMPTS = Pages("prompts.1", lambda item: (item.position, item.id), POSITION, IDENTIFIER)


class PromptChange(Schema):
    """What may be set; whatever is left out stays."""

    EXAMPLES: ClassVar[Examples] = [{"enabled": False}]

    title = PlainText(longest=100)
    content = PlainText(longest=50_000)
    position = WholeNumber(
        validate=validate.Range(0, LAST_POSITION),
        metadata={"description": "Prompts are told by position; the default is after the last."},
    )
    enabled = Flag()


class PromptCreation(PromptChange):
    EXAMPLES: ClassVar[Examples] = [{"title": "Tone", "content": "You answer in plain words, briefly.", "position": 0}]

    title = PlainText(longest=100, required=True)
    content = PlainText(longest=50_000, required=True)


class PromptSchema(Schema):
    id = fields.UUID()
    project_id = fields.UUID()
    title = fields.String()
    content = fields.String()
    position = fields.Integer()
    enabled = fields.Boolean()
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class PromptQuery(PageQuery):
    after = Cursor(PROMPTS)


PromptPage = page_of(PromptSchema)
