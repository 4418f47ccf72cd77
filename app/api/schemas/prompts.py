from typing import ClassVar

from marshmallow import fields, validate

from app.api.pagination import IDENTIFIER, POSITION, Cursor, PageQuery, Pages, page_of
from app.api.schemas.base import Examples, Flag, PlainText, Schema, WholeNumber
from app.bounds import PROMPT_LIMIT
from app.services.prompt_variables import VARIABLES
from app.services.prompts import LAST_POSITION

PROMPTS = Pages("prompts.1", lambda item: (item.position, item.id), POSITION, IDENTIFIER)
PROMPT_VERSIONS = Pages("prompts.versions.1", lambda item: (item.number,), POSITION)


class PromptChange(Schema):
    """The fields to set; omitted fields are not changed."""

    EXAMPLES: ClassVar[Examples] = [{"enabled": False}]

    title = PlainText(max_length=100, metadata={"description": "Title, for people; not sent to the provider."})
    content = PlainText(
        max_length=PROMPT_LIMIT,
        metadata={"description": "Text that is sent to the provider; a change makes a version."},
    )
    draft = PlainText(
        max_length=PROMPT_LIMIT,
        allow_none=True,
        metadata={"description": "The next content, which is not sent before it is published; null for none."},
    )
    variables = Flag(
        metadata={
            "description": "Whether names in double braces are replaced, such as `{{date}}`; false by default. They"
            f" are {', '.join(f'`{name}`' for name in VARIABLES)}."
        }
    )
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
        max_length=PROMPT_LIMIT, required=True, metadata={"description": "Text that is sent to the provider."}
    )


class PromptSchema(Schema):
    id = fields.UUID()
    project_id = fields.UUID(metadata={"description": "Project of the prompt."})
    title = fields.String(metadata={"description": "Title, for people."})
    content = fields.String(metadata={"description": "Text that is sent to the provider."})
    version = fields.Integer(metadata={"description": "Number of this content among the prompt's versions, from 1."})
    draft = fields.String(
        allow_none=True, metadata={"description": "The next content, which is not sent yet; null without one."}
    )
    variables = fields.Boolean(metadata={"description": "Whether names in double braces are replaced."})
    position = fields.Integer(metadata={"description": "Prompts are sent in order of position."})
    enabled = fields.Boolean(metadata={"description": "Whether the prompt is sent."})
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class PromptQuery(PageQuery):
    after = Cursor(PROMPTS)


PromptPage = page_of(PromptSchema)


class PromptVersionItem(Schema):
    number = fields.Integer(metadata={"description": "Number of the version, from 1."})
    characters = fields.Integer(metadata={"description": "Length of its content."})
    variables = fields.Boolean(metadata={"description": "Whether names in double braces are replaced."})
    current = fields.Boolean(metadata={"description": "Whether this version is the prompt's content now."})
    created_at = fields.AwareDateTime(metadata={"description": "When it became the prompt's content."})


class PromptVersionSchema(PromptVersionItem):
    content = fields.String(metadata={"description": "Text of this version."})


class PromptVersionQuery(PageQuery):
    after = Cursor(PROMPT_VERSIONS)


PromptVersionPage = page_of(PromptVersionItem)
