"""The AI providers, as operators see them and choose among them."""

from typing import ClassVar

from marshmallow import fields, validate

from app.api.schemas.base import Examples, PlainText, Schema
from app.models.turn import MODEL_LIMIT
from ops.providers import NAMES

_NAME = validate.OneOf(list(NAMES))


class ProviderLineSchema(Schema):
    name = fields.String(validate=_NAME)
    in_use = fields.Boolean(metadata={"description": "It answers where neither request nor project names another."})
    configured = fields.Boolean()
    model = fields.String(allow_none=True, metadata={"description": "Asked where nobody names another."})
    lacks = fields.String(allow_none=True, metadata={"description": "What its settings need before it can be used."})


class ProvidersSchema(Schema):
    """As the process is configured that answered; the choice is the same for all."""

    in_use = fields.String(validate=_NAME)
    because = fields.String(metadata={"description": "Who or what decided that."})
    since = fields.AwareDateTime(allow_none=True, metadata={"description": "When an operator chose it, if one did."})
    fallback = fields.List(fields.String(validate=_NAME))
    providers = fields.List(fields.Nested(ProviderLineSchema))


class ProviderChoiceSchema(Schema):
    EXAMPLES: ClassVar[Examples] = [{"provider": "openrouter", "model": "some-vendor/some-model"}]

    provider = fields.String(required=True, validate=_NAME)
    model = PlainText(
        longest=MODEL_LIMIT,
        load_default=None,
        allow_none=True,
        metadata={"description": "Asked where nobody names another; absent: the provider's own."},
    )


class ProviderSwitchedSchema(Schema):
    """It holds for every server within five seconds."""

    name = fields.String(validate=_NAME)
    model = fields.String()
    before = fields.String(validate=_NAME)
    model_before = fields.String()


class ProviderTestedSchema(Schema):
    name = fields.String(validate=_NAME)
    answers = fields.Boolean()
    model = fields.String(metadata={"description": "The one that answered, or that was asked."})
    first_piece_seconds = fields.Float(allow_none=True)
    seconds = fields.Float()
    said = fields.String(allow_none=True, metadata={"description": "The beginning of its answer."})
    tokens = fields.Integer(allow_none=True)
    problem = fields.String(allow_none=True, metadata={"description": "What is wrong, in a sentence."})
    second_opinion = fields.String(allow_none=True, metadata={"description": "Asked for at the command line only."})
